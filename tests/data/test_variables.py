"""The table of variables against the facts of the benchmark, as far as they can be stated twice."""

from fusionctl.data.variables import CHEXPERT_LABELS, GCS_PARTS, GCS_TOTAL, INDEX, VARIABLES


def test_alphabetical_and_59_value_columns():
    names = [v.name for v in VARIABLES]
    assert names == sorted(names) and len(names) == 17
    assert sum(len(v.categories) or 1 for v in VARIABLES) == 59


def test_no_item_belongs_to_two_variables():
    items = [(i.source, i.itemid) for v in VARIABLES for i in v.items]
    assert len(items) == len(set(items))


def test_only_blood_is_read_from_the_laboratory():
    labs = {i.itemid for v in VARIABLES for i in v.items if i.source == "lab"}
    assert labs == {50931, 50809, 50817, 50820}
    assert not labs & {51478, 51491, 50831, 51094}  # urine and other fluids


def test_units_are_converted_by_item():
    maps = {i.itemid: (i.scale, i.offset) for v in VARIABLES for i in v.items}
    scale, offset = maps[223761]
    assert abs(98.6 * scale + offset - 37.0) < 1e-9
    assert abs(32 * scale + offset) < 1e-9
    assert maps[226707] == (2.54, 0.0) and maps[226531] == (0.453592, 0.0)
    assert maps[223762] == maps[226730] == maps[224639] == (1.0, 0.0)


def test_normal_values_are_plausible_or_a_category():
    for v in VARIABLES:
        if v.is_categorical:
            assert v.categories[int(v.normal_value)] == v.normal
        else:
            assert v.low <= v.normal_value <= v.high


def test_normal_categories_are_spelt_as_observed():
    spelt = {v.name: v.normal for v in VARIABLES if v.scores}
    assert list(spelt.values()) == ["Spontaneously", "Obeys Commands", "15", "Oriented"]


def test_coma_scale():
    parts = [VARIABLES[i] for i in GCS_PARTS]
    assert [max(p.scores) for p in parts] == [4, 6, 5] and all(min(p.scores) == 1 for p in parts)
    eye, _, verbal = (dict(zip(p.categories, p.scores, strict=True)) for p in parts)
    assert eye["None"] == 1 and verbal["No Response-ETT"] == 1 and verbal["1.0 ET/Trach"] == 1
    assert [int(c) for c in VARIABLES[GCS_TOTAL].categories] == list(VARIABLES[GCS_TOTAL].scores)
    assert not VARIABLES[GCS_TOTAL].items
    best = sum(p.scores[int(p.normal_value)] for p in parts)
    assert str(best) == VARIABLES[GCS_TOTAL].normal


def test_index_and_labels():
    assert INDEX["pH"] == 16 and INDEX["Capillary refill rate"] == 0
    assert len(CHEXPERT_LABELS) == 14 and list(CHEXPERT_LABELS) == sorted(CHEXPERT_LABELS)


def test_what_legacy_reads_beside_or_instead():
    extra = {v.name: {i.itemid for i in v.legacy_extra} for v in VARIABLES if v.legacy_extra}
    assert extra == {"Glucose": {51478}, "pH": {51491, 50831, 51094}}
    assert [v.name for v in VARIABLES if v.legacy_unread] == ["Capillary refill rate"]
    for v in VARIABLES:
        assert v.read("paper") == v.items
        assert v.read("legacy") == (() if v.legacy_unread else v.items + v.legacy_extra)
    items = [(i.source, i.itemid) for v in VARIABLES for i in v.read("legacy")]
    assert len(items) == len(set(items))


def test_what_legacy_imputes():
    """The benchmark's own normal values: CareVue's spellings of the same points of the coma scale."""
    spelt = {v.name: v.legacy_normal for v in VARIABLES if v.legacy_normal}
    assert list(spelt.values()) == ["4 Spontaneously", "6 Obeys Commands", "5 Oriented"]
    for v in VARIABLES:
        if v.legacy_normal:
            assert v.categories[int(v.imputed("legacy"))] == v.legacy_normal
            assert v.scores[int(v.imputed("legacy"))] == v.scores[int(v.normal_value)]
        else:
            assert v.imputed("legacy") == v.normal_value
