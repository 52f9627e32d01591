# SPDX-License-Identifier: Apache-2.0
"""Visual SLAM split as Renesas' RZ/V2H splits it: DRP, DRP-AI3 and CPU, emulated and profiled."""

__version__ = "0.1.0"
