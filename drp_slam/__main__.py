# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam`: the entry point that works with and without a ROS install."""

import sys

from drp_slam.cli import main

if __name__ == "__main__":
    sys.exit(main())
