# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
import resource
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cv2  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from exact import exact_rows  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from drp_slam.atomic import write_bytes  # noqa: E402
from drp_slam.card import load_card  # noqa: E402
from drp_slam.cli import main  # noqa: E402
from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import cutting, deepcompression, inputs, layout, probe, recovery, sharing  # noqa: E402
from drp_slam.pruning.onnxfile import read  # noqa: E402
from drp_slam.pruning.onnxgraph import Graph  # noqa: E402
from drp_slam.pruning.onnxnet import OnnxNet  # noqa: E402
from drp_slam.pruning.xfeat import distill  # noqa: E402


def model() -> onnx.ModelProto:
    """Two convolutions (one unevenly padded), a shortcut, resize, pooling, a linear layer."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1.0 / np.sqrt(max(1, np.prod(shape[1:])))
        return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], pads=[0, 0, 1, 1], kernel_shape=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "b.weight"], ["b"], pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Add", ["b", "r"], ["s"]),
        helper.make_node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "Resize", ["p", "", "scales"], ["u"], mode="linear", coordinate_transformation_mode="half_pixel"
        ),
        helper.make_node("Concat", ["u", "s"], ["c"], axis=1),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "d.weight", "d.bias"], ["y"], transB=1),
    ]
    weights = [
        weight("a.weight", 16, 3, 2, 2),
        weight("a.bias", 16),
        weight("b.weight", 16, 16, 3, 3),
        weight("d.weight", 5, 32),
        weight("d.bias", 5),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(1)
    for index in range(6):
        image = cv2.GaussianBlur(rng.integers(0, 255, (40, 40, 3), np.uint8), (5, 5), 0)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
    onnx.save_model(model(), tmp_path / "small.onnx")
    return tmp_path


def outputs(path_or_model, x: np.ndarray) -> np.ndarray:
    source = path_or_model if isinstance(path_or_model, bytes) else str(path_or_model)
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_the_torch_form_of_a_file_equals_onnxruntime_and_goes_back(folder):
    graph = read(str(folder / "small.onnx"))
    net = OnnxNet(graph).eval()
    x = np.random.default_rng(2).random((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        found = net(torch.from_numpy(x)).numpy()
    assert np.allclose(found, outputs(folder / "small.onnx", x), atol=1e-5)
    assert np.allclose(outputs(graph.updated().SerializeToString(), x), found, atol=1e-5)
    assert list(graph.layers) == ["a", "b", "d"]


def test_a_factory_is_traced(tmp_path):
    graph = read("drp_slam.pruning.studies.reference:resnet20", (1, 3, 32, 32))
    assert len(graph.layers) == 20


@pytest.mark.parametrize("saliency", ["obs", "obd", "magnitude"])
def test_command_writes_float_and_int8_files_with_the_zeros_in_them(folder, saliency, capsys):
    out = folder / saliency
    code = main(
        [
            "prune",
            str(folder / "small.onnx"),
            "--rate",
            "0.6",
            "--saliency",
            saliency,
            "--calibration",
            str(folder / "images"),
            "--out",
            str(out),
            "--json",
        ]
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    masks = {name: module.weight != 0 for name, module in read(str(out / "small-p60.onnx")).layers.items()}
    assert layout.density(masks) == pytest.approx(0.4, abs=0.05)
    assert all(exact_rows(mask) for mask in masks.values())
    assert result["totals"]["cycles_share"] < 0.5
    x = np.random.default_rng(2).random((1, 3, 16, 16), np.float32)
    assert np.isfinite(outputs(out / "small-p60.onnx", x)).all()
    int8 = onnx.load(out / "small-p60-int8.onnx")
    stored = {w.name: numpy_helper.to_array(w) for w in int8.graph.initializer}
    quantised = stored["b.weight_quantized"]
    assert not quantised[~masks["b"].numpy()].any()


def images_of(folder: Path, graph: Graph) -> inputs.Feeds:
    return inputs.feeds(folder / "images", graph, None, 6)


def test_few_images_are_filled_up_with_views_of_them(folder):
    images = images_of(folder, read(str(folder / "small.onnx")))
    filled, views = images.filled(20, seed=3), images.augmented(3)
    assert (len(images), len(filled), len(views)) == (6, 20, 6 * 64)
    assert all((filled[i]["x"] == images[i]["x"]).all() for i in range(6)), "the images themselves come first"
    assert (filled[7]["x"] == filled[7]["x"]).all() and (filled[7]["x"] != images[1]["x"]).any()
    assert (filled[7]["x"] == images.filled(20, seed=3)[7]["x"]).all() and (filled[7]["x"] != filled[13]["x"]).any()
    assert filled[19]["x"].shape == (1, 3, 16, 16) and filled[19]["x"].min() >= 0.0 and filled[19]["x"].max() <= 1.0
    assert len(filled.first(4)) == 4 and len(images.filled(4)) == 4 and len(list(filled)) == 20
    with pytest.raises(IndexError):
        filled[20]


def test_obs_keeps_the_outputs_closer_than_magnitude(folder):
    errors = {}
    for saliency in ("obs", "magnitude"):
        graph = read(str(folder / "small.onnx"))
        images = images_of(folder, graph)
        cutting.prune(graph, cutting.Options(0.6, saliency=saliency), images)
        errors[saliency] = probe.network_error(model(), graph.updated(), images)
    assert errors["obs"] < errors["magnitude"]


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "agp", "retrain": 8},
        {"layer_rates": "sensitivity"},
        {"layer_rates": "uniform"},
        {"saliency": "weight-decay"},
        {"budget": "cycles"},
        {"pattern": "fixed-nm"},
    ],
)
def test_every_way_of_pruning_holds_its_masks(folder, options):
    graph = read(str(folder / "small.onnx"))
    chosen = cutting.Options(0.5, **{"saliency": "magnitude", "stages": 2, **options})
    masks = cutting.prune(graph, chosen, images_of(folder, graph), checkpoint=folder / "training.pt")
    for name, module in graph.layers.items():
        assert not module.weight[~masks[name]].any()
    assert 0.2 < layout.density(masks) <= 0.56


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--rate", "1.0"], "rate is 1.0, expected 0 <= rate < 1"),
        (["--rate", "0.5", "--layers", "conv9"], "no layer 'conv9' in the model"),
        (["--rate", "0.5", "--shape", "3,16"], "expected four positive numbers"),
        (["--rate", "0.5", "--shape", "1,3,32,32"], "the file fixes its input to [1, 3, 16, 16]"),
        (["--rate", "0.5", "--calibration", "nowhere"], "no image and no .npz file below it"),
        (["--rate", "0.5", "--stages", "0"], "--stages 0"),
        (["--rate", "0.5", "--images", "0"], "--images 0"),
        (["--rate", "0.5", "--retrain", "-1"], "--retrain -1"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, message, capsys):
    code = main(["prune", str(folder / "small.onnx"), *arguments, "--out", str(folder / "o")])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1 and message in error


def test_an_operator_without_a_torch_form_stops_only_what_needs_gradients(folder):
    strange = model()
    strange.graph.node[1].op_type = "Selu"
    graph = Graph(strange)
    images = images_of(folder, graph)
    cutting.prune(graph, cutting.Options(0.5, saliency="obs"), images)
    assert probe.network_error(strange, graph.updated(), images) < 0.5
    for options in (cutting.Options(0.5, retrain=4), cutting.Options(0.5, saliency="taylor")):
        with pytest.raises(PruningError, match="node 'r' is a Selu, which has no torch form here; prune by obs"):
            cutting.prune(Graph(strange), options, images)


def test_a_factory_that_cannot_be_traced_is_named():
    with pytest.raises(PruningError, match="expected package.module:factory"):
        read("drp_slam.pruning.studies.reference:nothing", (1, 3, 8, 8))
    with pytest.raises(PruningError, match="cannot be called without arguments: TypeError"):
        read("drp_slam.pruning.studies.reference:cifar_folder", (1, 3, 8, 8))
    with pytest.raises(PruningError, match="give --shape"):
        read("drp_slam.pruning.studies.reference:resnet20")
    with pytest.raises(PruningError, match="cannot be traced on"):
        read("drp_slam.pruning.studies.reference:resnet20", (1, 5, 8, 8))


def trained(folder: Path) -> tuple[OnnxNet, OnnxNet, dict, cutting.Stack]:
    graph = read(str(folder / "small.onnx"))
    dense = graph.copied()
    return OnnxNet(graph).eval(), OnnxNet(dense).eval(), graph.layers, cutting.Stack(images_of(folder, graph))


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(folder):
    net, dense, layers, images = trained(folder)
    checkpoint = folder / "training.pt"

    def spoil(step: int, loss: float) -> None:
        if step == 60:
            with torch.no_grad():
                net.b.weight.fill_(float("inf"))

    with pytest.raises(PruningError, match=r"loss is (nan|inf).*training\.pt"):
        recovery.retrain(net, dense, layers, {}, images, 100, 0, checkpoint, spoil)
    assert torch.load(checkpoint, weights_only=True)["step"] == 50


def test_a_later_stage_that_fails_at_once_still_has_a_checkpoint(folder):
    net, dense, layers, images = trained(folder)
    checkpoint = folder / "training.pt"
    recovery.retrain(net, dense, layers, {}, images, 5, 0, checkpoint, lambda *_: None)
    good = {name: value.clone() for name, value in net.state_dict().items()}

    def spoil(step: int, loss: float) -> None:
        with torch.no_grad():
            net.b.weight.fill_(float("nan"))

    with pytest.raises(PruningError, match=r"loss is nan at step 1.*training\.pt"):
        recovery.retrain(net, dense, layers, {}, images, 5, 0, checkpoint, spoil)
    kept = torch.load(checkpoint, weights_only=True)["net"]
    assert all(torch.equal(kept[name], value) for name, value in good.items())


@contextlib.contextmanager
def full_disk():
    """Every write beyond 64 bytes is refused, as on a disk without space; pytest's own report must not be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_where_a_checkpoint_is_written(tmp_path):
    with full_disk(), pytest.raises(PruningError, match=r"training\.pt: cannot write: File too large"):
        distill.save_checkpoint({"a": torch.zeros(3)}, tmp_path / "training.pt")
    assert not list(tmp_path.iterdir())


def test_compression_trains_the_centroids_where_there_is_retraining(folder, capsys):
    def prune(*more: str) -> dict:
        out = folder / "-".join(("o", *more)).replace("--", "")
        code = main(
            [
                "prune",
                str(folder / "small.onnx"),
                "--rate",
                "0.6",
                "--saliency",
                "obd",
                "--calibration",
                str(folder / "images"),
                "--out",
                str(out),
                "--no-int8",
                "--compress",
                "--json",
                *more,
            ]
        )
        assert code == 0
        return json.loads(capsys.readouterr().out)["compressed"]

    plain, trained = prune(), prune("--retrain", "80")
    assert not plain["centroids_trained"] and trained["centroids_trained"]
    tensors = deepcompression.decode(Path(trained["file"]).read_bytes())
    for name, module in read(str(folder / "o-retrain-80" / "small-p60.onnx")).layers.items():
        weight = tensors[f"{name}.weight"]
        assert ((weight != 0) == (module.weight.detach().numpy() != 0)).all()
        bits = sharing.CONV_BITS if weight.ndim == 4 else sharing.LINEAR_BITS
        assert len(np.unique(weight[weight != 0])) <= 2**bits


def test_a_full_disk_keeps_the_file_that_was_there(folder):
    before = (folder / "small.onnx").read_bytes()
    with full_disk(), pytest.raises(PruningError, match="the previous file is kept"):
        write_bytes(folder / "small.onnx", model().SerializeToString(), PruningError)
    assert (folder / "small.onnx").read_bytes() == before


@pytest.mark.parametrize("saliency", ["obs", "obd-network", "taylor", "magnitude"])
def test_stages_keep_the_pattern_where_a_layer_has_a_dead_output(folder, saliency):
    graph = read(str(folder / "small.onnx"))
    with torch.no_grad():
        graph.layers["a"].bias[:4] = -1e3  # four outputs never leave zero: all their saliencies are zero
    graph = Graph(graph.updated())
    chosen = cutting.Options(0.8, saliency=saliency, schedule="agp", stages=4)
    masks = cutting.prune(graph, chosen, images_of(folder, graph))
    assert all(exact_rows(mask) for mask in masks.values())
    assert layout.density(masks) == pytest.approx(0.2, abs=0.02)


def test_little_gain_is_explained(tmp_path, capsys):
    """A small layer beside operators that the A55 runs: pruning gains nothing, and the reason is printed."""
    w = numpy_helper.from_array(np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Erf", ["c"], ["e"]),
        helper.make_node("Erf", ["e"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 64, 64])
    graph = helper.make_graph(nodes, "g", [x], [y], [w])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(proto, tmp_path / "cpu.onnx")
    args = ["prune", str(tmp_path / "cpu.onnx"), "--rate", "0.7", "--images", "2", "--out", str(tmp_path / "o")]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "of the dense time, which is" in out and "% the A55 and transfers to it" in out
    assert "replace Erf by operators that the accelerator maps" in out
    m = json.loads((tmp_path / "o" / "prune.json").read_text())["modelled"]
    assert m["saved"] < 0.2 and sum(c["share"] for c in m["causes"]) == pytest.approx(1.0)


def test_a_pruned_xfeat_has_a_card_that_run_takes(tmp_path, capsys):
    args = ["prune", "xfeat-fp32", "--rate", "0.5", "--saliency", "magnitude", "--images", "3", "--shape", "1,1,96,128"]
    assert main([*args, "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    card = load_card(result["int8"])
    assert card.dtype == "int8" and card.facts["sparsity"]["overall"] == pytest.approx(0.5, abs=0.02)
    run = ["run", "synthetic", "--frames", "3", "--network", result["int8"], "--out", str(tmp_path / "run"), "--json"]
    assert main(run) == 0
