"""Starting weights: what fits is loaded, what does not fit is named, and torchvision's files can be converted."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torchvision.models import vision_transformer

from fusionctl.checkpoint import write_weights
from fusionctl.errors import InputError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.init import initialise

EXAMPLE = Path(__file__).parents[2] / "examples" / "convert_torchvision.py"


@pytest.fixture(scope="module")
def converter():
    spec = importlib.util.spec_from_file_location("convert_torchvision", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_vit(monkeypatch):
    """The ViT's structure and names in a size for tests."""

    def build(*, weights=None, image_size=224):
        return vision_transformer.VisionTransformer(image_size, 16, 1, 2, 8, 8)

    monkeypatch.setattr(torchvision.models, "vit_b_16", build)
    return build


@pytest.fixture
def resnet():
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None)


def encoder(arch="resnet18", **options):
    torch.manual_seed(0)
    return CxrEncoder(arch, 3, input_size=32, **options)


def saved(path, tensors):
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def same(trunk, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in trunk.state_dict().items())


def test_torchvisions_weights_without_their_classifier(resnet, tmp_path):
    target = encoder()
    head = target.head.weight.clone()
    initialise(target, saved(tmp_path / "w.safetensors", resnet.state_dict()))
    assert same(target.trunk, resnet.state_dict())
    assert torch.equal(target.head.weight, head)
    assert target.trunk.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_weights_of_pretraining_whatever_their_labels(tmp_path):
    source = CxrEncoder("resnet18", 14, input_size=64)
    write_weights(tmp_path / "weights.safetensors", source, config=source.config)
    target = encoder()
    initialise(target, tmp_path / "weights.safetensors")
    assert same(target.trunk, source.trunk.state_dict())


def test_files_without_counters_of_batches_fit(resnet, tmp_path):
    state = {n: t for n, t in resnet.state_dict().items() if "num_batches_tracked" not in n}
    target = encoder()
    initialise(target, saved(tmp_path / "w.safetensors", state))
    assert torch.equal(target.trunk.layer4[1].bn2.weight, resnet.layer4[1].bn2.weight)


def test_the_released_densenet_has_old_names(tmp_path):
    torch.manual_seed(1)
    source = torchvision.models.densenet121(weights=None)
    old = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.") if "denselayer" in name else name: tensor
        for name, tensor in source.state_dict().items()
    }  # fmt: skip
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    target = encoder("densenet121")
    initialise(target, saved(tmp_path / "w.safetensors", old))
    assert same(target.trunk, source.state_dict())


def test_another_network_is_named_by_what_differs_and_by_what_it_fits(resnet, tmp_path):
    path = saved(tmp_path / "w.safetensors", resnet.state_dict())
    with pytest.raises(InputError, match="not weights of resnet34: layer1.2.conv1.weight is missing; ") as error:
        initialise(encoder("resnet34"), path)
    assert "and 77 more" in error.value.message and error.value.hint == "the file fits --arch resnet18"
    larger = saved(tmp_path / "l.safetensors", encoder("resnet34").trunk.state_dict())
    target = encoder()
    before = target.trunk.conv1.weight.clone()
    with pytest.raises(InputError, match=r"layer1\.2\.bn1\.bias is not part of it") as error:
        initialise(target, larger)
    assert error.value.hint == "the file fits --arch resnet34"
    assert torch.equal(target.trunk.conv1.weight, before)


def test_a_tensor_of_another_shape_is_an_error(resnet, tmp_path):
    state = resnet.state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    path = saved(tmp_path / "w.safetensors", state)
    with pytest.raises(InputError, match="conv1.weight is 64 x 1 x 7 x 7, expected 64 x 3 x 7 x 7") as error:
        initialise(encoder(), path)
    assert error.value.hint.startswith("give weights of that network")


def test_what_is_no_weights_file_names_the_converter(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"PK no safetensors file")
    for path in (tmp_path / "w.pth", tmp_path / "missing"):
        with pytest.raises(InputError, match="not a readable safetensors file") as error:
            initialise(encoder(), path)
        assert "examples/convert_torchvision.py" in error.value.hint


def test_positions_of_another_input_size_are_interpolated_as_torchvision_does(tiny_vit, tmp_path):
    torch.manual_seed(1)
    state = tiny_vit(image_size=96).state_dict()
    state["encoder.pos_embedding"] = torch.randn(1, 37, 8)
    path = saved(tmp_path / "w.safetensors", state)
    target = encoder("vit_b_16")
    initialise(target, path)
    expected = vision_transformer.interpolate_embeddings(32, 16, dict(state))["encoder.pos_embedding"]
    torch.testing.assert_close(target.trunk.encoder.pos_embedding.detach(), expected)
    assert torch.equal(target.trunk.class_token, state["class_token"])
    initialise(again := CxrEncoder("vit_b_16", 3, input_size=96), path)
    assert torch.equal(again.trunk.encoder.pos_embedding, state["encoder.pos_embedding"])


def test_positions_that_are_no_square_are_an_error(tiny_vit, tmp_path):
    state = tiny_vit(image_size=96).state_dict() | {"encoder.pos_embedding": torch.randn(1, 30, 8)}
    with pytest.raises(InputError, match="encoder.pos_embedding is 1 x 30 x 8, expected 1 x 5 x 8"):
        initialise(encoder("vit_b_16"), saved(tmp_path / "w.safetensors", state))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_converted_file_starts_an_encoder(converter, resnet, tmp_path, capsys, wrapped):
    prefix = "module." if wrapped else ""
    state = {prefix + name: tensor for name, tensor in resnet.state_dict().items()}
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "in.pth")
    converter.main([str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")])
    assert "122 tensors, 11,699,132 numbers" in capsys.readouterr().out
    assert set(load_file(tmp_path / "out.safetensors")) == set(resnet.state_dict())
    target = encoder()
    initialise(target, tmp_path / "out.safetensors")
    assert same(target.trunk, resnet.state_dict())


@pytest.mark.parametrize("content", [[1, 2], {}, {"weights": torch.zeros(2), "epoch": 3}])
def test_what_holds_no_state_is_not_converted(converter, tmp_path, capsys, content):
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(SystemExit) as stopped:
        converter.main([str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")])
    assert stopped.value.code == 2 and "not a weights file: it" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_with_code_in_it_is_refused(converter, tmp_path, capsys):
    torch.save({"weights": Path("x")}, tmp_path / "in.pth")
    with pytest.raises(SystemExit):
        converter.main([str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")])
    assert "not a weights file" in capsys.readouterr().err
