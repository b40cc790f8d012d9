"""Messages are one printable line, whatever a checkpoint's names hold."""

import pickle

import numpy as np
import pytest

from jaxbert import errors
from jaxbert.corpus.files import WriteError
from jaxbert.errors import (
    ComputationError,
    JaxbertError,
    MissingPackageError,
    QueueFullError,
    printable,
    shown,
)
from jaxbert.train.run import LossError

# Those whose messages are made of other arguments have tests of their own.
OWN = {ComputationError, LossError, MissingPackageError, QueueFullError}
KINDS = [kind for kind in (*JaxbertError.__subclasses__(), WriteError) if kind not in OWN]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_has_no_character_that_a_terminal_obeys(kind):
    message = str(kind("the key \x1b]0;x\x07 of caf\u00e9\u202e\ud800 is\nunknown"))
    assert message == r"the key \x1b]0;x\x07 of café\u202e\ud800 is unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_cut_in_its_middle(kind):
    message = str(kind("begin " + "y" * 2_000_000 + " end"))
    assert len(message) <= errors.LONGEST_MESSAGE + 5
    assert message.startswith("begin ")
    assert message.endswith(" end")


def test_values_are_shown_short():
    assert shown({"a": "\x1b"}) == repr({"a": "\x1b"})
    assert len(shown("y" * 10**6)) <= errors.LONGEST_VALUE + 5
    assert printable("plain, 日本語 and é") == "plain, 日本語 and é"


MADE = [ComputationError("row 7", 6), QueueFullError(2.5, 7.5, 5.0)]


@pytest.mark.parametrize("error", [*MADE, *(kind("why") for kind in KINDS)])
def test_errors_cross_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_error_of_a_loss_crosses_processes():
    error = LossError(7, np.arange(3), "the loss is nan", "")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.step == 7
    np.testing.assert_array_equal(again.rows, error.rows)
