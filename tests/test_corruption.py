"""What every corruption has in common: of the series, of the film, and by name."""

import numpy as np
import pytest
from toy import write_preprocessed

from fusionctl.corruption import Corruption
from fusionctl.corruption_cells import NAMES, OF_SERIES
from fusionctl.corruptions import Background, build
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import UsageError
from fusionctl.noise import Noise


@pytest.fixture(scope="module")
def background(tmp_path_factory):
    path = write_preprocessed(tmp_path_factory.mktemp("toy") / "p", stays=24, most_films=2)
    return Background(StayData.open(path), path, impute="previous", protocol="paper", view="AP", seed=5)


def made(background, name, level):
    return build(name, background, level=level, kind="additive", modality="both")


def batch(background, name, level, rows=range(24)):
    return collate(background.data, list(rows), corruption=made(background, name, level))


def same(one, other):
    names = ("series", "lengths", "films", "film_rows", "has_film", "labels")
    return all(getattr(one, n).equal(getattr(other, n)) for n in names)


def test_clean_is_no_corruption(background):
    assert build("clean", background, level=0.0) is None


@pytest.mark.parametrize("name", NAMES)
def test_each_touches_what_it_says_and_nothing_at_level_0(background, name):
    clean, worst = batch(background, "clean", 0.0), batch(background, name, 0.9)
    assert same(batch(background, name, 0.0), clean)
    modality = made(background, name, 0.9).modality
    assert modality == ("both" if name == "noise" else "ehr" if name in OF_SERIES else "cxr")
    assert worst.series.equal(clean.series) == (modality == "cxr")
    films = worst.films.equal(clean.films) and worst.film_rows.equal(clean.film_rows)
    # of the toy's patients only those with two films have an earlier one; their last film is replaced by it
    assert films == (modality == "ehr")


@pytest.mark.parametrize("name", NAMES)
def test_a_stay_meets_the_same_in_every_batch(background, name):
    whole, alone = batch(background, name, 0.5), batch(background, name, 0.5, rows=[6])
    n = int(alone.lengths[0])
    assert whole.series[6, :n].equal(alone.series[0])
    assert whole.films[whole.film_rows == 6].equal(alone.films)


@pytest.mark.parametrize("name", NAMES)
def test_levels_break_no_rule(background, name):
    for level in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match=f"{name} level must be a share from 0 to 1; got"):
            made(background, name, level)


def test_no_stream_of_random_numbers_is_that_of_another(background):
    one = Corruption(level=0.5, seed=5)
    first = [one.generator(1, stream).random() for stream in range(2, 7)]
    assert len(set(first)) == 5
    noise = made(background, "noise", 0.5)
    assert isinstance(noise, Noise)
    assert {noise._drawn(stream, 1).random() for stream in (0, 1)}.isdisjoint(first)
    assert Corruption(level=0.1, seed=5).generator(1, 2).random() == first[0]
    assert Corruption(level=0.5, seed=6).generator(1, 2).random() != first[0]


def test_what_happens_to_a_share_of_stays_happens_to_more_at_a_greater_level():
    stays = range(2000)
    shares = [{s for s in stays if Corruption(level=x, seed=0).happens(s, 2)} for x in (0.0, 0.2, 0.5, 1.0)]
    assert all(small <= large for small, large in zip(shares, shares[1:], strict=False))
    assert [len(share) / 2000 for share in shares] == pytest.approx([0, 0.2, 0.5, 1], abs=0.03)


def test_noise_leaves_the_masks(background):
    observed = np.ones((4, 17), dtype=bool)
    values, masks = made(background, "noise", 0.5).series(background.data.values[:4], observed, 1)
    assert masks is observed and (values != background.data.values[:4]).any()
