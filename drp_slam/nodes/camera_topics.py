# SPDX-License-Identifier: Apache-2.0
"""The topics of a camera or player: the one table that options, launch arguments and nodes read. No ROS is imported."""

CAMERA_TOPICS = {
    "image": "the colour image; /compressed below it works too",
    "depth": "the depth image, registered to the colour image",
    "camera_info": "the image's calibration",
    "right": "the right image of a stereo pair, which then needs no depth",
    "right_camera_info": "the right image's calibration (default: beside the right image)",
}
"""Topic -> what it carries."""
PAIR_TOPICS = ("right", "right_camera_info")
"""Topics that only a stereo pair has: they are not subscribed to by default."""
TRANSPORTS = {"image": ("compressed",), "right": ("compressed",), "depth": ("compressed", "compressedDepth")}
"""Topic -> sub-topics of image_transport, which are renamed with it."""
CAMERA_IN = {
    "drp_node": ("image", "camera_info", *PAIR_TOPICS),
    "perception_node": ("image",),
    "pose_node": tuple(CAMERA_TOPICS),
}
"""Node -> topics from the camera or player."""
