import cv2
import film_files
import numpy as np
import pytest

from fusionctl.data import images
from fusionctl.data.images import FilmFormat, FilmReader
from fusionctl.data.jpeg import UnreadableFilm
from fusionctl.errors import UsageError

PLAIN = {"size": 64, "fit": "squeeze", "clahe": False, "backend": "opencv"}
PATH = "files/p1/p1/s0/a.jpg"


@pytest.fixture
def root(tmp_path):
    """A film folder with an odd name and one film."""
    folder = tmp_path / "odd 'films"
    film_files.write(folder, PATH, film_files.jpeg(300, 280))
    return folder


def read(root, path=PATH, **options):
    return images.read_film(root, path, **(PLAIN | options))


def fitted(root, shape, fit):
    return read(root, film_files.write(root, "b.jpg", film_files.jpeg(*shape)), fit=fit)


@pytest.mark.parametrize("shape", [(300, 280), (64, 64), (50, 70), (40, 40), (2000, 100)])
def test_any_shape_is_squeezed_into_the_square(root, shape):
    film = fitted(root, shape, "squeeze")
    assert film.shape == (64, 64) and film.dtype == np.uint8
    assert film[12, 12] > 220, "the bright square keeps its place: squeezed, not cropped or turned"
    assert film[40, 40] < 190


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((512, 256), (0, 64), (16, 48)),
        ((256, 512), (16, 48), (0, 64)),
        ((300, 300), (0, 64), (0, 64)),
        ((20, 40), (16, 48), (0, 64)),
        ((2000, 100), (0, 64), (30, 33)),
    ],
)
def test_padded_between_black_bars(root, shape, rows, columns):
    film = fitted(root, shape, "pad")
    inside = film[slice(*rows), slice(*columns)]
    assert inside.min() > 20, "the film fills its part"
    outside = film.copy()
    outside[slice(*rows), slice(*columns)] = 0
    assert not outside.any(), "the rest is black"
    expected = cv2.resize(film_files.picture(*shape), inside.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(inside.astype(int) - expected).mean() < 3, "nothing is cut off"


@pytest.mark.parametrize(("shape", "kept"), [((512, 256), np.s_[128:384, :]), ((300, 600), np.s_[:, 150:450])])
def test_cropped_to_the_middle(root, shape, kept):
    expected = cv2.resize(film_files.picture(*shape)[kept], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(fitted(root, shape, "crop").astype(int) - expected).mean() < 2


@pytest.mark.parametrize("fit", ["squeeze", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (3, 2), (64, 63)])
def test_tiny_and_narrow_films(root, shape, fit):
    film = fitted(root, shape, fit)
    assert film.shape == (64, 64) and film.any()


def test_a_side_that_shrinks_is_averaged_even_if_the_other_grows():
    stripes = np.zeros((640, 32), np.uint8)
    stripes[::2] = 200
    out = np.empty((64, 64), np.uint8)
    images.fit_film(stripes, out, sides=(64, 64), fit="squeeze")
    assert (out == 100).all()


def test_the_bars_of_an_earlier_film_are_wiped():
    out = np.full((64, 64), 9, np.uint8)
    images.fit_film(np.full((64, 32), 50, np.uint8), out, sides=(32, 64), fit="pad")
    assert sorted(set(out.ravel().tolist())) == [0, 50]


def test_clahe_is_opencvs_on_the_small_film(root):
    plain, equalised = read(root), read(root, clahe=True)
    np.testing.assert_array_equal(equalised, cv2.createCLAHE(2.0, (8, 8)).apply(plain))
    assert (plain != equalised).any()


def test_the_backends_clip_alike_and_skimage_stretches_first(root):
    plain = read(root).astype(int)
    plain = ((plain - plain.min()) * 255 / (plain.max() - plain.min())).round().astype(np.uint8)
    found = {}
    for backend in ("opencv", "skimage"):
        found[backend] = np.empty_like(plain)
        images.equaliser(backend, size=64)(plain, found[backend])
    difference = np.abs(found["opencv"].astype(int) - found["skimage"]).mean()
    assert difference < 12, "with the full range used already, what is left is how each interpolates"
    assert np.abs(plain.astype(int) - found["skimage"]).mean() > difference, "it equalised"
    low = (plain // 8 + 100).astype(np.uint8)
    for backend in found:
        images.equaliser(backend, size=64)(low, found[backend])
    assert np.abs(found["opencv"].astype(int) - found["skimage"]).mean() > 25, "low contrast: tens of levels apart"


def test_versions_name_the_libraries():
    assert images.decoder_version().startswith(f"opencv {cv2.__version__}")
    assert "jpeg" in images.decoder_version()
    assert images.backend_version("opencv") == f"opencv {cv2.__version__}"
    assert images.backend_version("skimage").startswith("skimage 0.")


@pytest.mark.parametrize("backend", ["opencv", "skimage"])
def test_clahe_needs_sides_that_its_tiles_divide(root, backend):
    with pytest.raises(UsageError, match="--film-size must be a multiple of 8 with --clahe; got 60"):
        read(root, size=60, clahe=True, backend=backend)
    assert read(root, size=60).shape == (60, 60)


def test_a_block_of_films_names_the_bad_ones(root):
    film_files.write(root, "bad.jpg", b"")
    reader = FilmReader(root, FilmFormat(**PLAIN))
    films, unreadable = reader.read_block([PATH, "bad.jpg", PATH, "missing.jpg"])
    np.testing.assert_array_equal(films[0], read(root))
    np.testing.assert_array_equal(films[2], films[0])
    assert not films[1].any() and not films[3].any()
    assert unreadable == {1: "is empty; rule: JPEG files", 3: "cannot be read: No such file or directory"}
    assert reader.n_dicom == 0


def test_a_directory_in_place_of_a_film(root):
    with pytest.raises(UnreadableFilm, match="cannot be read: Is a directory"):
        read(root, "files/p1/p1/s0")


@pytest.mark.parametrize("path", ["../outside.jpg", "files/../../outside.jpg", "/etc/hostname"])
def test_paths_stay_inside_the_root(root, path):
    film_files.write(root.parent, "outside.jpg", film_files.jpeg(300, 280))
    with pytest.raises(UnreadableFilm, match="rule: paths stay inside --cxr-root"):
        read(root, path)
