# SPDX-License-Identifier: Apache-2.0
"""Package metadata: a ROS 2 package of type ament_python, and a plain Python package."""

from glob import glob
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, find_packages, setup

NAME = "drp_slam"
STAGES = ("drp_node", "perception_node", "pose_node", "dense_node", "profiler_node", "player_node")
NODES = (*STAGES, "container", "rerun_view")
MESSAGES = ("std", "sensor", "nav", "geometry", "diagnostic", "visualization", "rosgraph", "lifecycle")
VERSION = next(
    line.split('"')[1] for line in Path(NAME, "__init__.py").read_text().splitlines() if line.startswith("__version__")
)
SHIPPED = ("config", "config/cameras", "config/devices", "config/foxglove", "config/rviz", "launch", "models")
# Every install puts these folders into drp_slam/share, where resources.py finds them. `colcon build
# --symlink-install` runs this file beside links to the package and the data files, without models/.
SHIPPED = tuple(folder for folder in SHIPPED if Path(folder).is_dir())


def inside(folder):
    """Name of a shipped folder as a part of the package, so that any kind of install takes it along."""
    return f"{NAME}.share.{folder.replace('/', '.')}"


def shared(*folders):
    """Files of each folder, to lie below share/drp_slam under the same names, where ROS tools look."""
    return [(f"share/{NAME}/{folder}", [f for f in glob(f"{folder}/*") if Path(f).is_file()]) for folder in folders]


# The loops of the tracker. Without a compiler the package is installed all the same, and numpy does their work.
# The digest tells when the extension of an editable install was built from older sources (slam/compiled.py).
KERNELS = sorted(Path(NAME, "slam", "native").glob("*.[ch]"))
DIGEST = sha256(b"".join(path.read_bytes() for path in KERNELS)).hexdigest()
NATIVE = Extension(
    f"{NAME}.slam._native",
    [str(path) for path in KERNELS if path.suffix == ".c"],
    depends=[str(path) for path in KERNELS if path.suffix == ".h"],
    define_macros=[("SOURCES", f'"{DIGEST}"')],
    extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall"],
    optional=True,
)


setup(
    name=NAME,
    version=VERSION,
    description="Visual SLAM split as Renesas' RZ/V2H splits it: DRP, DRP-AI3 and CPU, emulated and profiled",
    license="Apache-2.0",
    author="The drp_slam authors",
    maintainer="The drp_slam authors",
    maintainer_email="maintainers@drp-slam.invalid",
    python_requires=">=3.10",
    packages=[*find_packages(exclude=["test", "test.*"]), *map(inside, SHIPPED)],
    package_dir={inside(folder): folder for folder in SHIPPED},
    package_data={
        NAME: ["py.typed", "profiler/*.css", "profiler/*.js"],
        **{inside(folder): ["*.*"] for folder in SHIPPED},
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared(*(folder for folder in SHIPPED if folder != "models")),
    ],
    ext_modules=[NATIVE],
    zip_safe=False,
    install_requires=[
        "setuptools",
        "numpy",
        "onnx",
        "onnxruntime",
        "opencv-python-headless>=4.6",
        "scipy",
        "rosbags",
        "PyYAML",
        "rich",
        "matplotlib",
    ],
    extras_require={
        # The real rclpy over the real Fast DDS, for hosts without a ROS install.
        "ros": [
            "ros-jazzy-rclpy",
            "ros-jazzy-rmw-fastrtps-cpp",
            *(f"ros-jazzy-{family}-msgs" for family in MESSAGES),
            "ros-jazzy-std-srvs",
        ],
        "prune": ["torch", "torch-pruning", "scikit-learn", "scikit-image"],
        "dense": [
            "open3d-cpu; platform_system == 'Linux' and platform_machine == 'x86_64'",
            "open3d; platform_system != 'Linux' or platform_machine != 'x86_64'",
        ],
        "sweep": ["distributed"],
        "view": ["rerun-sdk>=0.23"],
        "board": ["openpyxl"],
        "test": [
            "pytest",
            "pytest-xdist",
            "pytest-rerunfailures",
            "hypothesis",
            "evo",
            "onnx-tool",
            "openpyxl",
            "gtsam; python_version < '3.14'",
        ],
        "lint": ["ruff", "mypy", "types-PyYAML"],
        "docs": ["mkdocs-material"],
    },
    entry_points={
        "console_scripts": [f"drp_slam = {NAME}.cli:main", *(f"{node} = {NAME}.nodes.{node}:main" for node in NODES)]
    },
)
