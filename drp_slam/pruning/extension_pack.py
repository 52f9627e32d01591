# SPDX-License-Identifier: Apache-2.0
"""An alias: the names of Renesas' DRP-AI Extension Pack (`drpai_compaction_tool.pytorch`), from `pruner`.

A script written for Renesas' package runs with one line changed:

    from drp_slam.pruning.extension_pack import Pruner, get_model_info, make_pruning_layer_list

The original is closed source: names and use are the same, the masks are those of this package.
"""

from drp_slam.pruning.pruner import (
    Pruner,
    deepcopy_model,
    get_model_info,
    load_pruned_state_dict,
    make_pruning_layer_list,
)

__all__ = ["Pruner", "deepcopy_model", "get_model_info", "load_pruned_state_dict", "make_pruning_layer_list"]
