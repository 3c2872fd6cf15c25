import numpy as np
import pytest

from fusionctl.errors import InputError, UsageError
from fusionctl.noise import Moments, Noise, NoiseStats, estimate, parse_levels

CONTINUOUS = np.array([True, False, True])
STATS = NoiseStats(
    series=Moments(*(np.array(row, float) for row in ([90, 3, 7.4], [12, 1, 0.1], [40, 0, 6.9], [180, 7, 7.8]))),
    continuous=CONTINUOUS,
    film=Moments(*(np.array(float(x)) for x in (110, 50, 2, 251))),
)
VALUES = np.tile(np.array([80.0, 2.0, 7.3], np.float32), (24, 1))
FILM = np.full((32, 32), 120, np.uint8)


def noise(level=0.5, kind="additive", modality="both", seed=0, stats=STATS):
    return Noise(stats, level=level, kind=kind, modality=modality, seed=seed)


@pytest.mark.parametrize("kind", ["additive", "zero-mean", "replace"])
@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.6, 1.0])
def test_exactly_that_share_of_steps_and_pixels_changes(kind, level):
    steps = (noise(level, kind).noisy(VALUES, 1) != VALUES).any(axis=1)
    assert steps.sum() == round(level * 24)
    film = np.zeros((32, 32), np.uint8)  # below the range of training: a corrupted pixel is at least 2
    assert (noise(level, kind).film(film, 1) != film).sum() == round(level * 1024)


def test_all_continuous_variables_of_a_step_change_and_no_categorical_one():
    result = noise(0.5, "zero-mean").noisy(VALUES, 1)
    changed = result != VALUES
    assert (changed[:, 0] == changed[:, 2]).all()
    assert not changed[:, 1].any()


def test_level_0_and_the_other_modality_are_left_alone():
    assert noise(0.0).noisy(VALUES, 1) is VALUES and noise(0.0).film(FILM, 1) is FILM
    assert noise(modality="cxr").noisy(VALUES, 1) is VALUES
    assert noise(modality="ehr").film(FILM, 1) is FILM
    assert (noise(modality="cxr").film(FILM, 1) != FILM).any()


def test_one_modality_alone_has_the_noise_it_has_in_both():
    np.testing.assert_array_equal(noise(modality="ehr").noisy(VALUES, 1), noise().noisy(VALUES, 1))
    np.testing.assert_array_equal(noise(modality="cxr").film(FILM, 1), noise().film(FILM, 1))


def test_the_input_itself_is_not_changed():
    values, film = VALUES.copy(), FILM.copy()
    noise().noisy(values, 1), noise().film(film, 1)
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_array_equal(film, FILM)


def test_same_seed_stay_and_level_same_noise_whatever_came_before():
    first, again = noise(), noise()
    expected = [first.noisy(VALUES, s) for s in (1, 2, 3)], [first.film(FILM, s) for s in (1, 2, 3)]
    for s in (3, 1, 2):
        np.testing.assert_array_equal(again.film(FILM, s), expected[1][s - 1])
        np.testing.assert_array_equal(again.noisy(VALUES, s), expected[0][s - 1])


def test_each_film_of_a_stay_has_noise_of_its_own_and_the_first_that_of_an_only_one():
    drawn = [noise().film(FILM, 1, number) for number in range(3)]
    np.testing.assert_array_equal(drawn[0], noise().film(FILM, 1))
    assert len({film.tobytes() for film in drawn}) == 3
    np.testing.assert_array_equal(drawn[2], noise().film(FILM, 1, 2))
    assert (drawn[1] != noise().film(FILM, 2, 1)).any() and (drawn[1] != noise(0.4).film(FILM, 1, 1)).any()


def test_the_noise_of_a_film_is_what_it_was_in_earlier_versions():
    """Published curves can be made again: these positions and grey levels must never change."""
    result = noise().film(np.arange(16, dtype=np.uint8).reshape(4, 4), 30_000_000)
    assert result.tolist() == [[126, 1, 2, 3], [4, 36, 6, 170], [8, 90, 10, 126], [223, 132, 161, 15]]


def test_seed_stay_and_level_each_change_the_noise():
    base = noise().noisy(VALUES, 1)
    for other in (noise(seed=1).noisy(VALUES, 1), noise().noisy(VALUES, 2), noise(0.500001).noisy(VALUES, 1)):
        assert (other != base).any()


@pytest.mark.parametrize(
    ("kind", "mean", "sd"), [("additive", 80 + 30, 12), ("zero-mean", 80, 12), ("replace", 30, 12)]
)
def test_moments_of_each_kind(kind, mean, sd):
    wide = Moments(*(np.array([x, 0, 0], float) for x in (30, 12, -1e6, 1e6)))
    stats = NoiseStats(wide, CONTINUOUS, None)
    drawn = noise(1.0, kind, stats=stats).noisy(np.tile(VALUES[:1], (20_000, 1)), 1)[:, 0]
    assert abs(drawn.mean() - mean) < 4 * sd / np.sqrt(20_000)
    assert abs(drawn.std() - sd) < 0.3


def test_clipped_to_the_range_of_training():
    result = noise(1.0).noisy(np.tile(VALUES, (50, 1)), 1)
    assert result[:, 0].max() == 180 and result[:, 2].max() == np.float32(7.8)  # 80 + N(90, 12), 7.3 + N(7.4, 0.1)
    assert noise(1.0, "zero-mean").noisy(VALUES - 75, 1)[:, 0].min() == 40


def test_grey_levels_are_clipped_and_never_wrap():
    bright = np.full((64, 64), 240, np.uint8)
    result = noise(1.0).film(bright, 1)  # 240 + N(110, 50): wrapping would give dark pixels
    assert result.min() > 150 and result.max() == 251
    dark = noise(1.0, "zero-mean").film(np.zeros((64, 64), np.uint8), 1)
    assert dark.min() == 2 and (dark == 2).mean() > 0.4


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (1024,)])
def test_a_films_shape_does_not_matter(shape):
    result = noise().film(FILM.reshape(shape), 1)
    assert result.shape == shape and result.dtype == np.uint8
    np.testing.assert_array_equal(result.ravel(), noise().film(FILM, 1).ravel())


@pytest.mark.parametrize("rows", [1, 3, 24, 200])
def test_any_length(rows):
    result = noise(0.5).noisy(np.tile(VALUES[:1], (rows, 1)), 1)
    assert (result != VALUES[:1]).any(axis=1).sum() == round(0.5 * rows)
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ({"level": 1.5}, "noise level must be a share from 0 to 1; got 1.5"),
        ({"level": float("nan")}, "noise level must be a share from 0 to 1; got nan"),
        ({"kind": "salt"}, "--kind must be one of additive, zero-mean, replace; got 'salt'"),
        ({"modality": "text"}, "--modality must be one of both, ehr, cxr; got 'text'"),
    ],
)
def test_arguments_are_checked_once(argument, text):
    with pytest.raises(UsageError, match=text):
        noise(**argument)


def arrays(**changes):
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    films = np.stack([np.full((2, 2), g, np.uint8) for g in (10, 20, 200)])
    given = {
        "first_row": np.array([0, 2, 4]),
        "n_rows": np.array([2, 2, 2]),
        "film": np.array([1, -1, 2]),
        "train": np.array([True, True, False]),
        "continuous": np.array([True, True]),
        "seed": 0,
    }
    return estimate(values, films, **(given | changes))


def test_statistics_come_from_training_stays_and_their_films():
    found = arrays()
    assert found.series.mean.tolist() == [3, 4]
    assert found.series.sd == pytest.approx([np.sqrt(5)] * 2)
    assert (found.series.low.tolist(), found.series.high.tolist()) == ([0, 1], [6, 7])
    assert (found.film.mean, found.film.sd, found.film.low, found.film.high) == (20, 0, 20, 20)


def test_statistics_of_at_most_n_samples_that_the_seed_chooses():
    train = np.ones(3, bool)
    seen = {arrays(train=train, n_samples=1, seed=s).series.mean[0] for s in range(12)}
    assert seen == {1, 5, 9}
    assert (
        arrays(train=train, n_samples=2, seed=3).series.mean.tolist()
        == arrays(train=train, n_samples=2, seed=3).series.mean.tolist()
    )


def test_without_films_or_training_stays():
    assert arrays(film=np.array([-1, -1, 2])).film is None
    assert noise(stats=NoiseStats(STATS.series, CONTINUOUS, None)).film(FILM, 1) is FILM
    with pytest.raises(InputError, match="noise statistics come from training stays"):
        arrays(train=np.zeros(3, bool))


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0.1:0.6", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        ("0:1:0.25", (0.25, 0.5, 0.75, 1.0)),
        ("0.3, 0.1,0.3", (0.1, 0.3)),
        ("0.5", (0.5,)),
        ("0.5:0.5", (0.5,)),
        ("0", ()),
    ],
)
def test_levels(text, levels):
    assert parse_levels(text) == levels


@pytest.mark.parametrize(
    "text", ["", "a", "0.6:0.1", "1:2", "-0.1", "0:1:0", "0:1:-1", "0:1:0.001", "nan", "0.1:nan", "0:1:inf", "1:1:1:1"]
)
def test_wrong_levels(text):
    with pytest.raises(UsageError, match=r"--noise must be LOW:HIGH\[:STEP\] or a comma-separated list .* got"):
        parse_levels(text)
