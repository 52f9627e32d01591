# SPDX-License-Identifier: Apache-2.0
# docker build -t drp_slam . && docker run --rm --net=host --ipc=host drp_slam ros2 launch drp_slam bag.launch.py
ARG DISTRO=jazzy
FROM ros:${DISTRO}
ARG DISTRO
SHELL ["/bin/bash", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends \
    build-essential python3-dev python3-venv python3-opencv python3-yaml ros-${DISTRO}-tf2-msgs ros-${DISTRO}-vision-msgs \
    ros-${DISTRO}-rmw-fastrtps-cpp && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY constraints-${DISTRO}.txt src/drp_slam/
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE && \
    venv/bin/pip install --no-cache-dir -c src/drp_slam/constraints-${DISTRO}.txt onnx onnxruntime rosbags rich \
    matplotlib scipy
COPY . src/drp_slam
RUN source /opt/ros/${DISTRO}/setup.bash && source venv/bin/activate && python -m colcon build
ENV RMW_IMPLEMENTATION=rmw_fastrtps_cpp DISTRO=${DISTRO}
RUN printf '#!/bin/bash\nsource /opt/ros/%s/setup.bash\nsource /ws/venv/bin/activate\nsource /ws/install/setup.bash\nexec "$@"\n' \
    "${DISTRO}" > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "drp_slam", "slam.launch.py"]
