from pathlib import Path

import pytest

from robustbench_rad.checks import SEEN_ATTACKS
from robustbench_rad.errors import PlanError
from robustbench_rad.measured import make_conditions
from robustbench_rad.plan import make_plan, read_plan
from robustbench_rad.preflight_items import left_out_item
from robustbench_rad.pricing import prices
from robustbench_rad.profile import effective_profile, parse_profile, read_profile
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain

PROFILE = """
name = "mine"
version = 2
[domains.clean]
weight = 1.0
[domains.acquisition-shift]
weight = 2.0
[checks."clean.performance"]
critical = true
[checks."shift.xr.dose"]
levels = [0.5, 0.25]
tolerance = { auroc = 0.04 }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.toml").write_text(PROFILE)
    return tmp_path


def effective(folder, checks=None, **top):
    model = {"factory": "a:b", "head": "single-logit", "findings": ["x"], "input": {"size": [8, 8], "range": [0, 1]}}
    content = {"profile": "mine.toml", "model": model, "data": {"manifest": "m.csv"}, "checks": checks or {}, **top}
    return effective_profile(make_plan(content, base=folder))


def test_profile_is_merged_with_defaults(folder):
    profile = effective(folder)
    dose = profile.check("shift.xr.dose")
    assert (profile.name, profile.version) == ("mine", 2)
    assert profile.weights == {Domain.CLEAN: 1.0, Domain.ACQUISITION_SHIFT: 2.0}
    assert dose.options == {"levels": [0.5, 0.25]}
    assert dose.delta("auroc") == 0.04
    assert dose.delta("sensitivity") == 0.10
    assert dose.capital_delta("auroc") == 0.15
    assert profile.check("clean.performance").critical
    assert profile.check("shift.ct.none") is None


def test_plan_overrides_key_by_key(folder):
    profile = effective(folder, {"shift.xr.dose": {"tolerance": 0.02, "critical": True}, "attack.fgsm": True})
    dose = profile.check("shift.xr.dose")
    assert dose.options == {"levels": [0.5, 0.25]}
    assert [dose.delta(harm) for harm in ("auroc", "sensitivity", "specificity")] == [0.02] * 3
    assert dose.critical
    assert dose.profiled
    assert not profile.check("attack.fgsm").profiled


def test_policy_and_measurement_are_apart(folder):
    plain = effective(folder)
    judged = effective(folder, {"shift.xr.dose": {"tolerance": 0.01}})
    measured = effective(folder, {"shift.xr.dose": {"levels": [0.1]}})
    assert plain.measurement == judged.measurement
    assert plain.policy != judged.policy
    assert plain.policy == measured.policy
    assert plain.measurement != measured.measurement
    assert plain.sha256 == judged.sha256


def test_check_left_out_is_kept_as_missing(folder):
    profile = effective(folder, {"shift.xr.dose": False})
    assert not profile.check("shift.xr.dose").enabled
    assert "shift.xr.dose" not in profile.measurement


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"shift.xr.dosee": {}}, "unknown check 'shift.xr.dosee'.*Did you mean 'shift.xr.dose'"),
        ({"shift.xr.dosee": False}, "unknown check 'shift.xr.dosee'"),
        ({"shift.xr.dose": {"tolerence": 0.1}}, "unknown key 'tolerence'.*Did you mean 'tolerance'"),
        ({"shift.xr.dose": {"tolerance": {"aurc": 0.1}}}, "'aurc' is not a harm.*Did you mean 'auroc'"),
        ({"shift.xr.dose": {"tolerance": "0.1"}}, "expected a number, got '0.1'"),
        ({"shift.xr.dose": {"tolerance": True}}, "expected a number, got True"),
        ({"shift.xr.dose": {"tolerance": 0.3}}, "tolerance 0.3 must be below critical_harm 0.15 for auroc"),
        ({"attack.fgsm": {"tolerance": 0.9}}, "tolerance 0.9 must be below critical_harm 0.9"),
        ({"attack.fgsm": {"tolerance": {"flips": 0.1}}}, "'flips' is not a harm.*Known: create, hide"),
        ({"saliency.parameter-randomisation": {"tolerance": {"a": 0.1}}}, "'a' is not a harm.*measures one harm"),
        ({"attack.fgsm": {"critical": "no"}}, "critical: expected true or false, got 'no'"),
    ],
)
def test_wrong_override_says_what_was_expected(folder, checks, message):
    with pytest.raises(PlanError, match=f"(?s){message}"):
        effective(folder, checks)


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_built_in_profiles_are_valid(name):
    profile = read_profile(name)
    assert profile.name == name
    assert set(profile.domains) <= set(Domain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "neither built in nor a file"),
        ("name =", "not valid TOML"),
        ("name = 'a'\nversion = 1\ndomains = {}\ncheks = {}", "cheks: unknown key. Did you mean 'checks'"),
        ("name = 'a'\nversion = 1\nchecks = {}\n[domains.clan]\nweight = 1", "domains.clan"),
        ("name = 'a'\nversion = 1\nchecks = {}\n[domains.clean]\nweight = -1", "domains.clean.weight: expected "),
    ],
)
def test_wrong_profile_file(tmp_path, text, message):
    if text is not None:
        (tmp_path / "own.toml").write_text(text)
    with pytest.raises(PlanError, match=message):
        read_profile("own.toml", base=tmp_path)


def test_misspelt_profile_name_is_suggested():
    with pytest.raises(PlanError, match="Did you mean 'standard'"):
        read_profile("standrad", base=Path())


def test_what_holds_together_is_policy_and_part_of_the_hash(folder):
    text = (folder / "mine.toml").read_text()
    said, audit = (text.replace("version =", f'multiplicity = "{value}"\nversion =', 1) for value in ("check", "audit"))
    plain, same, other = (parse_profile(content, "mine") for content in (text, said, audit))
    assert plain.content_sha256 == same.content_sha256 != other.content_sha256
    before = effective(folder)
    (folder / "mine.toml").write_text(audit)
    after = effective(folder)
    assert (before.multiplicity, after.multiplicity) == ("check", "audit")
    assert before.policy != after.policy
    assert before.measurement == after.measurement
    with pytest.raises(PlanError, match="multiplicity"):
        parse_profile(text.replace("version =", 'multiplicity = "all"\nversion =', 1), "mine")


@pytest.mark.parametrize("stated", [{"tolerance": 0.5}, {"critical": True}, {"critical_harm": 0.8}])
def test_an_attack_that_can_be_seen_is_judged_only_where_that_is_stated(folder, stated):
    assert effective(folder, {"attack.patch": True}).check("attack.patch").informational
    assert not effective(folder, {"attack.patch": stated}).check("attack.patch").informational


@pytest.mark.parametrize("id", sorted(SEEN_ATTACKS))
def test_attacks_that_can_be_seen_exist(id):
    assert entry(id).domain == "adversarial"


def test_a_curve_takes_no_tolerance(folder):
    with pytest.raises(PlanError, match="shown, not judged: it takes no tolerance"):
        effective(folder, {"attack.curve-linf": {"tolerance": 0.5}})


def test_the_envelope_of_a_search_is_an_option_of_the_measurement(folder):
    envelope = {"shift.xr.dose": [0.5, 1.0]}
    profile = effective(folder, {"attack.worst-acquisition": {"envelope": envelope}})
    assert profile.measurement["attack.worst-acquisition"] == {"envelope": envelope}


def test_a_profile_file_stands_in_the_base_folder_or_beside_the_plan(tmp_path):
    (tmp_path / "plans").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "plans" / "mine.toml").write_text(PROFILE)
    plan = tmp_path / "plans" / "plan.toml"
    model = (
        '[model]\nfactory = "a:b"\nhead = "single-logit"\nfindings = ["x"]\ninput = { size = [8, 8], range = [0, 1] }\n'
    )
    plan.write_text(f'profile = "mine.toml"\n{model}[data]\nmanifest = "m.csv"\n')
    made = read_plan(plan, root=tmp_path / "data")
    assert effective_profile(made).version == 2
    (tmp_path / "data" / "mine.toml").write_text(PROFILE.replace("version = 2", "version = 5"))
    assert effective_profile(made).version == 5


CORE = {
    "CT": "ct.dose ct.kernel ct.slice-thickness ct.kvp ct.hu-calibration export.window geometry.rotate geometry.translate",
    "DX": "xr.dose xr.detector-mtf xr.scatter xr.lut xr.vendor-processing xr.collimation xr.marker xr.projection-ap "
    "xr.polarity geometry.rotate geometry.translate geometry.flip export.jpeg export.bit-depth",
    "MR": "mr.snr mr.bias-field mr.ghosting mr.motion mr.resolution mr.gibbs mr.spike mr.intensity-scale",
    "MG": "mg.dose mg.detector-mtf xr.lut geometry.rotate",
    "US": "us.gain us.dynamic-range us.speckle geometry.rotate",
}
FULL = {
    "CT": "ct.contrast-timing ct.metal ct.ring ct.motion ct.beam-hardening ct.fov ct.truncation ct.recon-algorithm ct.table "
    "ct.arms-down ct.patient-size export.rescale-missing export.orientation",
    "DX": "xr.kvp xr.lut-centre xr.inspiration xr.patient-rotation xr.motion-blur xr.saturation",
    "MR": "mr.field-strength mr.te-tr mr.wraparound mr.g-factor mr.b0-distortion mr.chemical-shift mr.fat-sat-failure",
    "MG": "mg.compression",
    "US": "us.shadow",
}


def of_modality(profile, modality, size=(8, 8), checks=None, **data):
    window = {"window_hu": [0, 1]} if modality == "CT" else {"range": [0, 1]}
    model = {"factory": "a:b", "head": "single-logit", "findings": ["x"], "input": {"size": list(size), **window}}
    content = {"profile": profile, "model": model, "data": {"manifest": "m.csv", "modality": modality, **data}}
    return effective_profile(make_plan({**content, "checks": checks or {}}, base=Path()))


@pytest.mark.parametrize("modality", CORE)
def test_suites_hold_what_belongs_to_a_modality(modality):
    size = (8, 8, 8) if modality in ("CT", "MR") else (8, 8)
    known = {
        name: {check.id for check in of_modality(name, modality, size, anatomy={"column": "mask"}).checks}
        for name in ("quick", "standard", "full")
    }
    core, full = ({f"shift.{name}" for name in suite[modality].split()} for suite in (CORE, FULL))
    assert core <= known["standard"]
    assert core | full <= known["full"]
    assert any(id.startswith("shift.") for id in known["quick"])


@pytest.mark.parametrize(
    ("size", "data", "lacking"),
    [
        (
            (8, 8),
            {},
            {
                "shift.ct.slice-thickness": "volumes",
                "shift.ct.contrast-timing": "masks",
                "shortcut.background-swap": "masks",
            },
        ),
        (
            (8, 8, 8),
            {"anatomy": {"provider": "hull"}},
            {"shift.ct.contrast-timing": "masks", "shortcut.background-swap": "masks"},
        ),
        ((8, 8, 8), {"anatomy": {"column": "mask"}}, {}),
        ((8, 8, 8), {"anatomy": {"atlas": "atlas.nii.gz"}}, {}),
    ],
)
def test_a_check_that_needs_what_the_data_lack_is_named_and_no_part_of_the_audit(size, data, lacking):
    profile = of_modality("full", "CT", size, **data)
    assert dict(profile.without) == lacking
    ids = {check.id for check in profile.checks}
    assert ids.isdisjoint(lacking)
    item = left_out_item(profile)
    assert (item is None) == (not lacking)
    for id, needs in lacking.items():
        assert id in item.detail
        assert {"volumes": "[model.input] size", "masks": "[data] anatomy"}[needs] in item.detail
        assert profile.check(id) is None


def test_a_check_that_the_plan_asks_for_is_run_whatever_it_needs():
    profile = of_modality("full", "CT", checks={"shift.ct.slice-thickness": True})
    assert profile.check("shift.ct.slice-thickness").options == {"levels": [2.5, 5]}
    assert "shift.ct.slice-thickness" not in dict(profile.without)


def test_what_nobody_knows_cannot_be_needed(folder):
    (folder / "mine.toml").write_text(PROFILE + 'needs = "luck"\n')
    with pytest.raises(PlanError, match=r"needs: expected one of volumes, masks, got 'luck'"):
        effective(folder)


@pytest.mark.parametrize("findings", [1, 14])
def test_the_shortcut_audits_of_standard_cost_forty_passes_a_case_at_most(findings):
    made = make_plan(
        {
            "profile": "standard",
            "model": {
                "factory": "a:b",
                "head": "sigmoid",
                "findings": [f"f{number}" for number in range(findings)],
                "input": {"size": [8, 8], "range": [0, 1]},
            },
            "data": {
                "manifest": "m.csv",
                "modality": "DX",
                "anatomy": {"column": "mask"},
                "metadata": {"s": "nuisance"},
            },
        },
        base=Path(),
    )
    conditions = [one for one in make_conditions(made, effective_profile(made)) if one.id.startswith("shortcut.")]
    paid = {price.id: price.total for price in prices(conditions, findings=findings, cases=1)}
    assert "shortcut.masked-anatomy" in paid
    assert "shortcut.spike-and-recovery" in paid
    assert paid["shortcut.scanner-probe"] == 0  # its features come with the clean pass
    assert 20 < sum(paid.values()) <= 40, paid


def test_an_id_without_quotes_is_told_to_be_quoted(folder):
    with pytest.raises(PlanError, match="unknown check 'shortcut'") as caught:
        effective(folder, {"shortcut": {"insert-marker": True}})
    assert caught.value.hint.startswith('Put the id in quotes: "shortcut.')
