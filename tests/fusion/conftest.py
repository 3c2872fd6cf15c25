"""Data for the tests of the fusion methods."""

import pytest
from toy import write_preprocessed

from fusionctl.data.batch import StayData


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Every other stay, from the first, has one film."""
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """As `data`, but stays with films have one, two or three."""
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("several"), most_films=3))
