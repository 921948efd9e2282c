"""init's look at models: channels, size, outputs, head, and the words around a factory."""

import pytest
import torch

from robustbench_rad.errors import ModelError
from robustbench_rad.init_head import suggest_head
from robustbench_rad.init_hints import Hints, read_hints
from robustbench_rad.init_model import look_at_model

LABELS = {"Effusion": "e", "Mass": "m", "No_Finding": "n"}


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Look at ``net``, a module given as an expression; ``extra`` is run on it, ``words`` is the docstring."""
    monkeypatch.chdir(tmp_path)

    def make(net, *, extra="pass", words="A network.", square=None):
        (tmp_path / "m.py").write_text(
            f'"""Models.\n\n- build: {words}\n- other: (N, 9, 9, 9) softmax\n"""\nimport torch\nfrom torch import nn\n'
            f"def build():\n    net = {net}\n    {extra}\n    return net\n"
        )
        return look_at_model("m.py:build", "", square=square)

    return make


def conv(outputs, channels=1, end=""):
    pool = "nn.AdaptiveAvgPool2d(1), nn.Flatten()"
    return f"nn.Sequential(nn.Conv2d({channels}, 8, 3), nn.ReLU(), {pool}, nn.Linear(8, {outputs}){end})"


def flat(side, outputs=2, channels=1):
    return f"nn.Sequential(nn.Flatten(), nn.Linear({channels * side * side}, {outputs}))"


def entries(head):
    return {entry.key: entry for entry in head.entries}


def test_a_model_of_any_size_gets_the_usual_one(look):
    seen = look(conv(2, 3))
    assert seen.channels[0] == 3
    assert seen.size[0] == (224, 224)
    assert seen.size[1].kind == "guessed, check"
    assert seen.outputs == 2


def test_squares_of_one_size_were_prepared_for_the_model(look):
    assert look(conv(2), square=96).size[0] == (96, 96)
    assert look(conv(2), square=2048).size[0] == (224, 224)


def test_a_model_of_one_size_is_seen_to_be(look):
    seen = look(flat(28))
    assert seen.size[0] == (28, 28)
    assert seen.size[1].kind == "seen"
    assert look(flat(32, channels=3)).channels[0] == 3


def test_a_volume_model_gets_a_volume(look):
    net = "nn.Sequential(nn.Conv3d(1, 2, 3, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 1))"
    assert look(net).size[0] == (64, 64, 64)


def test_a_size_nobody_guessed_leaves_placeholders(look):
    seen = look(flat(77))
    assert seen.size[0] == ()
    assert seen.outputs == 0
    assert "sizes tried was taken: RuntimeError" in seen.size[1].text
    assert entries(suggest_head(seen, LABELS, None))["head"].value == "decide"


def test_words_and_configurations_tell_the_size(look):
    assert look(conv(2), words="takes (N, 1, 77, 50) and so on").size[0] == (77, 50)
    configured = look(
        conv(2, 3), extra="net.default_cfg = dict(input_size=(3, 99, 99), mean=(.1, .2, .3), std=(1, 1, 1))"
    )
    assert configured.size[0] == (99, 99)
    assert configured.mean == (0.1, 0.2, 0.3)


def test_a_wrong_word_on_the_size_is_not_believed(look):
    assert look(flat(28), words="takes (N, 1, 77, 50)").size[0] == (28, 28)


@pytest.mark.parametrize(
    ("end", "kind", "sums"),
    [
        ("", "logits", False),
        (", nn.Sigmoid()", "probabilities", False),
        (", nn.Softmax(1)", "probabilities", True),
        (", nn.LogSoftmax(1)", "logits", False),
    ],
)
def test_what_the_outputs_are(look, end, kind, sums):
    seen = look(conv(3, end=end))
    assert seen.kind[0] == kind
    assert seen.sums_to_one is sums


def test_one_output(look):
    head = suggest_head(look(conv(1)), {"Mass": "m"}, None)
    assert entries(head)["head"].value == "single-logit"
    assert head.findings == {"Mass": "m"}


def test_one_output_and_many_labels_leave_the_finding_to_the_user(look):
    head = suggest_head(look(conv(1)), LABELS, None)
    assert entries(head)["findings"].value == []
    assert entries(head)["findings"].note.kind == "decide"
    told = suggest_head(look(conv(1), words="says whether there is a mass"), LABELS, None)
    assert told.findings == {"Mass": "m"}


def test_as_many_outputs_as_labels_are_sigmoid_in_an_order_to_be_checked(look):
    head = suggest_head(look(conv(3)), LABELS, None)
    assert entries(head)["head"].value == "sigmoid"
    assert entries(head)["findings"].value == ["Effusion", "Mass", "No_Finding"]
    assert entries(head)["findings"].note.kind == "guessed, check"


def test_names_of_the_module_and_words_give_the_order(look):
    own = look(conv(2), extra='net.pathologies = ["no finding", "mass"]')
    assert list(suggest_head(own, LABELS, None).findings) == ["No_Finding", "Mass"]
    told = look(conv(2), words="sigmoid, first Mass, then Effusion")
    assert list(suggest_head(told, LABELS, None).findings) == ["Mass", "Effusion"]


def test_a_distribution_is_softmax_even_with_as_many_labels(look):
    head = suggest_head(look(conv(3, end=", nn.Softmax(1)")), LABELS, None)
    assert entries(head)["head"].value == "softmax"
    assert entries(head)["classes"].value == []
    assert entries(head)["classes"].note.kind == "decide"


def test_classes_are_read_from_module_or_words(look):
    own = look(conv(3), extra='net.classes = ["big mass", "small mass", "normal"]')
    head = suggest_head(own, {"Mass": "m"}, None)
    assert entries(head)["classes"].value == ["big mass", "small mass", "normal"]
    assert entries(head)["findings"].value == {"Mass": ["big mass", "small mass"]}
    told = look(conv(3), words="exclusive classes: old Mass, normal and clear, new Mass; and more")
    assert entries(suggest_head(told, {"Mass": "m"}, None))["classes"].value == [
        "old Mass",
        "normal and clear",
        "new Mass",
    ]


def test_softmax_outputs_that_do_not_sum_to_1_are_logits(look):
    """As a last ReLU gives them: never negative, and small without weights."""
    head = suggest_head(look(conv(3, end=", nn.ReLU(), nn.Hardtanh(0, 0.01)")), {"Mass": "m"}, None)
    assert entries(head)["outputs"].value == "logits"


def test_a_segmenter_is_refused(look):
    with pytest.raises(ModelError, match=r"expected \(N, outputs\) from a classifier"):
        look("nn.Conv2d(1, 2, 3, padding=1)")


def test_a_program_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.trace(torch.nn.Conv2d(3, 5, 28), torch.zeros(1, 3, 28, 28)).save(tmp_path / "m.ts")
    with pytest.raises(ModelError, match=r"expected \(N, outputs\)"):  # other sizes give maps
        look_at_model("m.ts", "", square=None)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    torch.jit.trace(net, torch.zeros(1, 1, 28, 28)).save(tmp_path / "n.ts")
    seen = look_at_model("n.ts", "", square=28)
    assert (seen.outputs, seen.size[0]) == (2, (28, 28))
    assert len(seen.sha256) == 64
    with pytest.raises(ModelError, match="already holds the whole model"):
        look_at_model("n.ts", "w.pth", square=None)


def test_looking_leaves_the_random_state_alone(look):
    before = torch.random.get_rng_state()
    look(conv(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_words_of_other_factories_do_not_count(tmp_path):
    (tmp_path / "m.py").write_text('"""All.\n\n- a: softmax\n- ab: in [0, 255]\n"""\ndef ab():\n    "(N, 1, 8, 8)"\n')
    hints = read_hints("m.py:ab", tmp_path)
    assert not hints.exclusive
    assert hints.range == (0.0, 255.0)
    assert hints.shape == (1, 8, 8)
    assert read_hints("m.py:a", tmp_path).exclusive


def test_no_words_for_a_source_that_cannot_be_read(tmp_path):
    (tmp_path / "m.py").write_text("def (")
    assert read_hints("m.py:build", tmp_path) == Hints()
    assert read_hints("absent_module:build", tmp_path).text == ""


def test_known_names_are_found_in_prose_as_whole_words():
    hints = Hints(text="pleural thickening, No Finding; massive")
    assert hints.names(["Mass", "No_Finding", "Pleural_Thickening"]) == ("Pleural_Thickening", "No_Finding")
