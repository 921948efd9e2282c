import hashlib
import importlib.util
import math
import os
import pickle
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.errors import ModelError
from robustbench_rad.loading import choose_device, load_classifier, wrap_classifier
from robustbench_rad.plan import make_plan
from robustbench_rad.programs import ExportedModel, _plain_expressions
from robustbench_rad.weights import file_sha256, module_sha256, strip_prefixes

SOURCE = """
    from dataclasses import dataclass

    import torch
    from torch import nn

    @dataclass
    class Widths:
        hidden: int = 3

    class Net(nn.Module):
        def __init__(self, outputs=1, hidden=3):
            super().__init__()
            self.stem = nn.Conv2d(1, Widths(hidden).hidden, 3)
            self.norm = nn.BatchNorm2d(hidden)
            self.head = nn.Linear(hidden, outputs)

        @staticmethod
        def made():
            return Net()

        def forward(self, x):
            return self.head(self.norm(self.stem(x)).relu().mean((2, 3)))

    def build(outputs=1, hidden=3):
        return Net(outputs, hidden)

    def fails():
        raise RuntimeError("no licence")

    def returns_weights():
        return {"a": torch.zeros(1)}

    def returns_class():
        return Net

    NUMBER = 3
"""
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(textwrap.dedent(SOURCE))
    return tmp_path


def plan_for(folder, *, factory="net.py:build", findings=("x",), head="single-logit", **model):
    channels = model.pop("channels", 1)
    size = model.pop("size", [8, 8])
    section = {
        "factory": factory,
        "head": head,
        "findings": list(findings) if isinstance(findings, tuple) else findings,
        "input": {"size": size, "range": [0.0, 1.0], "channels": channels},
        **model,
    }
    return make_plan({"model": section, "data": {"manifest": "m.csv"}}, base=folder)


def load(folder, *, allow_pickle=False, **model):
    return load_classifier(plan_for(folder, **model), device="cpu", allow_pickle=allow_pickle)


def trained(folder, **arguments):
    """A module with weights that no fresh one has."""
    module = load(folder, arguments=arguments).module
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * (number + 1))
        module.norm.running_mean.fill_(0.25)
    return module


def caveats(classifier):
    return {caveat.name for caveat in classifier.caveats}


def assert_same(classifier, module):
    expected = module.eval()(IMAGES)
    torch.testing.assert_close(classifier.margins(IMAGES), expected)


# --- factories -------------------------------------------------------------------------------------------------------


def test_file_factory_with_arguments_and_dataclasses(folder):
    path, modules = list(sys.path), set(sys.modules)
    classifier = load(folder, arguments={"hidden": 5})
    assert classifier.margins(IMAGES).shape == (3, 1)
    assert classifier.module.stem.out_channels == 5
    assert not any(child.training for child in classifier.module.modules())
    assert sys.path == path
    assert [name for name in set(sys.modules) - modules if "net" in name] == [type(classifier.module).__module__]
    assert isinstance(pickle.loads(pickle.dumps(classifier.module)), nn.Module)


def test_factory_may_import_its_neighbours(folder):
    (folder / "neighbour_widths.py").write_text("HIDDEN = 4\n")
    (folder / "far").mkdir()
    (folder / "far" / "near_widths.py").write_text("OUTPUTS = 1\n")
    (folder / "far" / "net.py").write_text(
        "import near_widths, neighbour_widths\nfrom torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, near_widths.OUTPUTS))\n"
    )
    assert load(folder, factory="far/net.py:build").margins(IMAGES).shape == (3, 1)


def test_module_factory_from_the_plans_folder(folder, monkeypatch):
    (folder / "rad_test_package.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.delitem(sys.modules, "rad_test_package", raising=False)
    assert load(folder, factory="rad_test_package:Net.made").margins(IMAGES).shape == (3, 1)
    sys.modules.pop("rad_test_package")


def test_module_factory_from_the_current_folder(folder, tmp_path_factory, monkeypatch):
    (folder / "rad_test_here.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(folder)
    assert load(tmp_path_factory.mktemp("elsewhere"), factory="rad_test_here:build").findings == ("x",)
    sys.modules.pop("rad_test_here")


def test_untrained_weights_are_the_same_in_every_run_and_said_so(folder):
    state = torch.get_rng_state()
    first, second = load(folder), load(folder)
    assert first.weights_sha256 == second.weights_sha256 == module_sha256(first.module)
    assert torch.equal(torch.get_rng_state(), state)
    assert "weights" in caveats(first)


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        ({"factory": "net"}, "expected 'module:function'", "my_package"),
        ({"factory": "absent.py:build"}, "no such file", "relative to"),
        ({"factory": "no_such_package_here:build"}, "cannot be imported: ModuleNotFoundError", "installed"),
        ({"factory": "net.py:biuld"}, "has no 'biuld'", "Did you mean 'build'"),
        ({"factory": "net.py:NUMBER"}, "is a int, expected a function", "function"),
        ({"factory": "net.py:fails"}, r"RuntimeError: no licence \(net.py, line \d+\)", "by itself"),
        ({"factory": "net.py:returns_weights"}, "it returned a dict", "module itself"),
        ({"factory": "net.py:returns_class"}, "it returned the class Net", "module itself"),
        ({"arguments": {"widht": 3}}, "TypeError.*widht", "by itself"),
        ({"weights": "absent.pth"}, "no such file", "root"),
        ({"factory": "absent.pt2"}, "no such file", "root"),
        ({"sha256": "0" * 64}, "no weights file to check", "model.weights"),
    ],
)
def test_what_cannot_be_loaded_says_why_and_what_to_do(folder, model, message, hint):
    with pytest.raises(ModelError, match=message) as caught:
        load(folder, **model)
    assert hint in caught.value.hint


def test_file_that_fails_to_import_names_the_line_and_leaves_nothing(folder):
    (folder / "broken.py").write_text("import torch\n\n1 / 0\n")
    modules = set(sys.modules)
    with pytest.raises(ModelError, match=r"ZeroDivisionError: division by zero \(broken.py, line 3\)"):
        load(folder, factory="broken.py:build")
    assert set(sys.modules) == modules


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"net": {f"_orig_mod.module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    ],
    ids=["plain", "nested", "optimizer", "twice", "data-parallel", "compiled", "lightning", "old-batch-norm"],
)
def test_weights_in_every_wrapping_load(folder, wrap):
    module = trained(folder)
    torch.save(wrap(module.state_dict()), folder / "w.pth")
    classifier = load(folder, weights="w.pth")
    assert_same(classifier, module)
    assert classifier.weights_sha256 == file_sha256(folder / "w.pth")
    assert "weights" not in caveats(classifier)


def test_weights_fit_a_factory_that_returns_data_parallel(folder):
    (folder / "parallel.py").write_text(
        "from torch import nn\ndef build():\n    return nn.DataParallel(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)))\n"
    )
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    torch.save(plain.state_dict(), folder / "w.pth")
    assert_same(load(folder, factory="parallel.py:build", weights="w.pth"), plain)


def test_safetensors(folder):
    from safetensors.torch import save_file

    module = trained(folder)
    save_file(module.state_dict(), folder / "w.safetensors")
    assert_same(load(folder, weights="w.safetensors"), module)
    (folder / "w.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load(folder, weights="w.safetensors")


def test_several_sets_of_weights_are_said(folder):
    module = trained(folder)
    other = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    torch.save({"ema": other, "state_dict": module.state_dict()}, folder / "w.pth")
    classifier = load(folder, weights="w.pth")
    assert_same(classifier, module)
    (said,) = [caveat.detail for caveat in classifier.caveats if caveat.name == "weights"]
    assert "'state_dict' was used, 'ema' was not" in said


def test_weights_that_do_not_fit_list_names_and_shapes(folder):
    state = trained(folder).state_dict()
    del state["head.bias"]
    state.update({f"extra.{number}": torch.zeros(1) for number in range(11)})
    state["head.weight"] = torch.zeros(2, 3)
    torch.save(state, folder / "w.pth")
    with pytest.raises(ModelError) as caught:
        load(folder, weights="w.pth")
    text = str(caught.value)
    assert "1 missing from the file: head.bias" in text
    assert "11 unexpected in the file: extra.0, " in text
    assert "extra.7, … and 3 more" in text
    assert "extra.8" not in text
    assert "1 of another shape: head.weight (model (1, 3), file (2, 3))" in text
    assert "model.arguments" in caught.value.hint


def test_prefix_is_stripped_only_where_that_matches():
    state = {"model.stem.w": torch.zeros(1)}
    assert list(strip_prefixes(state, ["model.stem.w"])) == ["model.stem.w"]
    assert list(strip_prefixes(state, ["stem.w"])) == ["stem.w"]
    assert list(strip_prefixes(state, ["other"])) == ["model.stem.w"]


def test_sha256_is_checked_before_anything_is_read(folder):
    torch.save(trained(folder).state_dict(), folder / "w.pth")
    right = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    assert load(folder, weights="w.pth", sha256=right.upper()).weights_sha256 == right
    (folder / "w.pth").write_bytes(b"something else")
    with pytest.raises(ModelError, match=f"expected SHA-256 {right}, the file has ") as caught:
        load(folder, weights="w.pth", sha256=right)
    assert file_sha256(folder / "w.pth") in str(caught.value)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", ["torch", "pickle", "nested"])
def test_malicious_pickle_is_refused_and_not_run(folder, protocol):
    trap = folder / "trap"
    content = {"state_dict": trained(folder).state_dict(), "extra": Malicious(trap)} if protocol == "nested" else None
    path = folder / "w.pth"
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(Malicious(trap)))
    else:
        torch.save(content or Malicious(trap), path)
    for model in ({"weights": "w.pth"}, {"factory": "w.pth"}):
        with pytest.raises(ModelError) as caught:
            load(folder, **model)
        assert "runs code that is in the file" in caught.value.message
        assert "--allow-pickle" in caught.value.hint
        assert not trap.exists()


def test_whole_pickled_module_needs_the_flag(folder):
    module = trained(folder)
    torch.save(module, folder / "whole.pt")
    for model in ({"weights": "whole.pt"}, {"factory": "whole.pt"}):
        with pytest.raises(ModelError, match="not only tensors") as caught:
            load(folder, **model)
        assert "--allow-pickle" in caught.value.hint
        assert_same(load(folder, allow_pickle=True, **model), module)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_damaged_weights_are_an_error_with_the_file_named(folder, content):
    (folder / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.pth") as caught:
        load(folder, weights="w.pth")
    assert caught.value.hint


def test_truncated_weights(folder):
    torch.save(trained(folder).state_dict(), folder / "w.pth")
    whole = (folder / "w.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load(folder, weights="w.pth")


def test_checkpoint_without_weights(folder):
    torch.save({"epoch": 3, "loss": 0.1}, folder / "w.pth")
    with pytest.raises(ModelError, match="it holds: epoch, loss"):
        load(folder, weights="w.pth")


# --- programs --------------------------------------------------------------------------------------------------------


def script(folder, module):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(module.eval(), IMAGES), folder / "model.pt")


def export(folder, module, *, rows=3, dynamic=False):
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(module.eval(), (torch.rand(rows, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")


def gradient_of(classifier):
    images = IMAGES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(classifier.margins(images).sum(), images)
    return gradient


def test_torchscript(folder):
    module = trained(folder)
    script(folder, module)
    classifier = load(folder, factory="model.pt")
    assert_same(classifier, module)
    assert not classifier.hookable
    assert classifier.weights_sha256 == file_sha256(folder / "model.pt")
    assert gradient_of(classifier).abs().max() > 0
    assert {"layers", "operating point"} == caveats(classifier)
    with pytest.raises(ModelError, match="no access to its layers"):
        classifier.features(IMAGES)


def test_torchscript_as_weights_is_told_where_it_belongs(folder):
    script(folder, trained(folder))
    with pytest.raises(ModelError) as caught:
        load(folder, weights="model.pt")
    assert "model.factory" in caught.value.hint


def test_weights_as_factory_are_told_where_they_belong(folder):
    torch.save(trained(folder).state_dict(), folder / "w.pth")
    with pytest.raises(ModelError, match="holds weights, not a model") as caught:
        load(folder, factory="w.pth")
    assert "model.weights" in caught.value.hint


def test_exported_program_with_a_dynamic_batch(folder):
    module = trained(folder)
    export(folder, module, dynamic=True)
    classifier = load(folder, factory="model.pt2")
    assert_same(classifier, module)
    assert classifier.margins(IMAGES[:1]).shape == (1, 1)
    assert not classifier.hookable
    assert caveats(classifier) == {"layers", "operating point"}
    assert gradient_of(classifier).abs().max() > 0
    assert classifier.module.eval() is classifier.module.train()


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_exported_program_with_a_fixed_batch_runs_in_parts(folder, rows):
    module = trained(folder)
    export(folder, module, rows=rows)
    classifier = load(folder, factory="model.pt2")
    assert isinstance(classifier.module, ExportedModel)
    assert classifier.module.rows == rows
    assert_same(classifier, module)
    assert "batch size" in caveats(classifier)
    images = IMAGES.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(module(images).sum(), images)
    torch.testing.assert_close(gradient_of(classifier), expected)


def test_program_with_weights_or_arguments_is_refused(folder):
    export(folder, trained(folder))
    for extra in ({"weights": "net.py"}, {"arguments": {"a": 1}}):
        with pytest.raises(ModelError, match="already holds the whole model"):
            load(folder, factory="model.pt2", **extra)


def rewrite(path, change):
    """Write a zip archive again with some members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)


def test_malicious_exported_program_is_refused_and_not_run(folder):
    trap = folder / "trap"
    export(folder, trained(folder))
    payload = folder / "payload"
    torch.save((Malicious(trap),), payload)

    def poison(members):
        samples = next(name for name in members if "sample_inputs" in name)
        return {**members, samples: payload.read_bytes()}

    rewrite(folder / "model.pt2", poison)
    with pytest.raises(ModelError, match="not a readable exported program"):
        load(folder, factory="model.pt2")
    assert not trap.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("name", ["model/data/constants/opaque_obj_0", "model/data/aotinductor/model/x.so"])
def test_exported_program_with_code_is_refused(folder, name):
    export(folder, trained(folder))
    rewrite(folder / "model.pt2", lambda members: {**members, name: b"code"})
    with pytest.raises(ModelError, match="runs code that is in the file"):
        load(folder, factory="model.pt2")


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("s77", True),
        ("2*s0 + Max(1, s1)", True),
        ("Add(Symbol('s31', positive=True, integer=True), Integer(1))", True),
        ("Symbol('__import__')", False),
        ("Eq(Mod(s0, 2), 0)", True),
        ("s0 <= 1024", True),
        ("__import__('os').mkdir('x')", False),
        ("().__class__", False),
        ("eval(chr(49))", False),
        ("open(s0)", False),
    ],
)
def test_symbolic_sizes_are_plain_arithmetic(expression, plain):
    text = ('{"a": [{"expr_str": "' + expression + '"}]}').encode()
    assert _plain_expressions(text) is plain


@pytest.mark.parametrize("name", ["model.pt2", "model.pt"])
def test_damaged_program(folder, name):
    (folder / name).write_bytes(b"PK nonsense")
    with pytest.raises(ModelError, match=name):
        load(folder, factory=name)


# --- head, device, wrapping ------------------------------------------------------------------------------------------


def test_thresholds_declared_defaulted_and_largest_class(folder):
    declared = load(folder, thresholds={"x": 0.31})
    assert declared.head.thresholds == (0.31,)
    assert "operating point" not in caveats(declared)
    defaulted = load(folder, findings=("x", "y"), head="sigmoid", thresholds={"x": 0.2}, arguments={"outputs": 2})
    assert defaulted.head.thresholds == (0.2, 0.5)
    (said,) = [caveat.detail for caveat in defaulted.caveats if caveat.name == "operating point"]
    assert "NO OPERATING THRESHOLD IS DECLARED for y:" in said
    largest = load(folder, findings={"p": ["b", "v"], "n": ["n"]}, head="softmax", classes=["b", "n", "v"],
                   thresholds={"p": 0.4}, arguments={"outputs": 3})  # fmt: skip
    assert largest.head.groups == ((0, 2), (1,))
    assert largest.head.thresholds[0] == 0.4
    assert math.isnan(largest.head.thresholds[1])
    assert "operating point" not in caveats(largest)
    assert largest.margins(IMAGES).isfinite().all()


def test_findings_out_of_more_outputs(folder):
    arguments = {"outputs": 3}
    whole = load(folder, findings=("a", "b", "c"), head="sigmoid", arguments=arguments)
    part = load(folder, findings=("c", "a"), head="sigmoid", classes=["a", "b", "c"], arguments=arguments)
    torch.testing.assert_close(part.margins(IMAGES), whole.margins(IMAGES)[:, [2, 0]])


def test_probabilities_are_a_caveat(folder):
    assert "outputs" in caveats(load(folder, outputs="probabilities"))


def test_half_precision_weights_are_brought_to_float32(folder):
    module = trained(folder)
    torch.save({name: value.half() if value.is_floating_point() else value
                for name, value in module.state_dict().items()}, folder / "w.pth")  # fmt: skip
    classifier = load(folder, weights="w.pth")
    assert {parameter.dtype for parameter in classifier.module.parameters()} == {torch.float32}


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ModelError, match="sees 0 CUDA devices") as caught:
        choose_device("cuda")
    assert "--device cpu" in caught.value.hint
    with pytest.raises(ModelError, match="expected auto, cpu, cuda"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    with pytest.raises(ModelError, match="sees 1 CUDA devices"):
        choose_device("cuda:1")


def test_wrapped_module_stays_the_callers():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).train()
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("x",), thresholds=(0.5,))
    classifier = wrap_classifier(module, input=InputSpec(size=(8, 8)), head=head)
    assert classifier.module is module
    assert module.training
    assert classifier.hookable
    assert classifier.weights_sha256 == module_sha256(module)
    with torch.no_grad():
        module[1].bias.add_(1)
    assert classifier.weights_sha256 != module_sha256(module)


# --- architectures in use --------------------------------------------------------------------------------------------


def shim():
    path = Path(__file__).parent / "support" / "torchvision_shim.py"
    spec = importlib.util.spec_from_file_location("torchvision_shim", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def torchvision():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed (see the Makefile)")
    return shim().import_torchvision()


ARCHITECTURES = {
    "alexnet": ("torchvision.models:alexnet", 64, {}),
    "vgg19": ("torchvision.models:vgg19", 32, {}),
    "resnet50": ("torchvision.models:resnet50", 32, {}),
    "squeezenet": ("torchvision.models:squeezenet1_1", 32, {}),
    "densenet169": ("torchvision.models:densenet169", 32, {}),
    "vit": ("torchvision.models:vit_b_16", 32, {"image_size": 32}),
    "timm-vit": ("timm:create_model", 32, {"model_name": "vit_tiny_patch16_224", "img_size": 32}),
    "timm-densenet": ("timm:create_model", 32, {"model_name": "densenet121"}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_load_by_name_and_give_margins_gradients_and_features(torchvision, tmp_path, name):
    factory, size, arguments = ARCHITECTURES[name]
    pytest.importorskip(factory.partition(".")[0].partition(":")[0], reason="not installed (see the Makefile)")
    classifier = load(
        tmp_path, factory=factory, arguments={"num_classes": 2, **arguments}, size=[size, size], channels=3,
        head="sigmoid", findings=("a", "b"),
    )  # fmt: skip
    head = classifier.last_linear()
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))  # some start with zeros
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    margins = classifier.margins(images)
    assert margins.shape == (2, 2)
    assert margins.isfinite().all()
    (gradient,) = torch.autograd.grad(margins[:, 0].sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().amax() > 0
    features = classifier.features(images.detach())
    assert features.shape[0] == 2
    if isinstance(head, nn.Linear):
        torch.testing.assert_close(head(features), classifier.outputs(images.detach()), rtol=1e-4, atol=1e-4)


# --- real models -----------------------------------------------------------------------------------------------------

MODELS = Path(__file__).parents[2] / "shared" / "data" / "models"


@pytest.mark.skipif(not MODELS.is_dir(), reason="the real models are not on this machine")
@pytest.mark.parametrize(
    ("factory", "weights", "model"),
    [
        ("pneumoniamnist_cnn", "pneumoniamnist_cnn.pth", {"size": [28, 28]}),
        (
            "nih_resnet_small",
            "nih_resnet_small.pth",
            {
                "size": [160, 160],
                "head": "sigmoid",
                "findings": ("Pneumonia", "Effusion", "Infiltration", "No_Finding"),
            },
        ),
        (
            "squeezenet_pneumonia3",
            "squeezenet1_1_pneumonia3.pth",
            {
                "size": [224, 224],
                "channels": 3,
                "head": "softmax",
                "classes": ["bacterial", "normal", "viral"],
                "findings": {"pneumonia": ["bacterial", "viral"]},
                "thresholds": {"pneumonia": 0.5},
            },
        ),
    ],
)
def test_real_models_load_and_answer(factory, weights, model):
    classifier = load(MODELS, factory=f"chest_models.py:{factory}", weights=weights, **model)
    images = torch.rand(2, 1, *classifier.input.size, generator=torch.Generator().manual_seed(0))
    margins = classifier.margins(images)
    assert margins.shape == (2, len(classifier.findings))
    assert margins.isfinite().all()
    assert margins.abs().max() < 30
    assert "weights" not in caveats(classifier)
