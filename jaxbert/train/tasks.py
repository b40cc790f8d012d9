"""The three things that `jaxbert train` trains for: what each reads, computes, tells and writes."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from jaxbert.arguments import integer
from jaxbert.checkpoint.opening import open_model
from jaxbert.corpus.fields import Reading
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.train import finish, losses, objectives
from jaxbert.train.batches import Batches, buckets_of
from jaxbert.train.data import Data, Taught, pairs, sum_of, windows
from jaxbert.train.evaluate import correlation, masked_accuracy, read_scored, texts_in
from jaxbert.train.masking import WholeWords
from jaxbert.train.models import MaskedModel, TextModel
from jaxbert.train.opening import Start, begin, identity, quiet_stack
from jaxbert.train.options import Options, numbers, real
from jaxbert.train.ragged import Ragged
from jaxbert.train.sentences import FEWEST_WORDS, sample, sentences
from jaxbert.train.students import special_ids
from jaxbert.train.teacher import teacher_vectors
from jaxbert.train.texts import OnBadRow, Texts, read_pairs, read_texts
from jaxbert.train.trainable import Objective


class Task(Protocol):
    """One way to train, for the options of one command."""

    start: Start

    @property
    def settings(self) -> dict[str, Any]:
        """What decides about the result beside the numbers that all tasks have."""

    def model(self) -> Any:
        """The model before the first step."""

    def objective(self) -> Objective:
        """What the steps make small."""

    def data(self, folder: Path) -> Data:
        """What is trained on; folder is that of the run, whose settings have been compared."""

    def score(self, model: Any) -> str | None:
        """How good a model is, as a sentence; None without evaluation data."""

    def save(self, model: Any, folder: str) -> None:
        """Write the folder of a trained model."""


def enough(lengths: Any, options: Options) -> None:
    """InputError for less rows than a batch, before anything long is begun."""
    buckets_of(lengths, options.training.buckets, options.training.batch)


class MaskedWords:
    """Texts whose masked words a model finds: `jaxbert train mlm`."""

    def __init__(self, options: Options, bad: OnBadRow) -> None:
        """Open what training begins with, and read the texts."""
        self.options = options
        self.share = real(options.own["share"], "--share", 0.0, 1.0)
        self.start = begin(options.beginning, options.training.seed, lambda opened: False)
        self.start.check_length(options.training.length)
        config = self.start.encoder.config
        self.masking = WholeWords(
            share=self.share,
            mask_id=self.start.mask_id,
            vocab_size=config.vocab_size,
            special_ids=special_ids(self.start.tokenizer),
        )
        self.held_out = [*self.texts(options.evaluate, bad)] if options.evaluate else []
        without = frozenset(own.text for own in self.held_out)
        self.windows = self.cut(self.texts(options.inputs, bad, without), bad)
        enough(self.windows.lengths, options)

    def texts(
        self, inputs: Sequence[str], bad: OnBadRow, without: frozenset[str] = frozenset()
    ) -> Iterator[Texts]:
        """The texts of these files, but for those of `without`."""
        reading = Reading(self.options.kind, self.options.own["text_field"], "")
        return read_texts(inputs, reading, bad, without)

    def cut(self, texts: Any, bad: OnBadRow) -> Any:
        """The windows of these texts."""
        return windows(texts, self.start.tokenizer, self.options.training.length, bad)

    @property
    def settings(self) -> dict[str, Any]:
        """The sum of the windows, and the share of masked tokens."""
        return {"data_sha256": self.windows.sha256, "share": self.share}

    def model(self) -> MaskedModel:
        """The encoder with a head that gives every token a logit."""
        return self.start.masked_model(self.options.training.seed)

    def objective(self) -> Objective:
        """Cross entropy at masked tokens."""
        return objectives.masked_lm(self.masking, self.options.training.dropout)

    def data(self, folder: Path) -> Data:
        """The windows that were cut when this was made."""
        return self.windows

    def score(self, model: MaskedModel) -> str | None:
        """The accuracy at masked tokens of texts that are not trained on."""
        if not self.held_out:
            return None
        training, held_out = self.options.training, self.cut(self.held_out, OnBadRow(skip=True))
        rows = min(training.batch, len(held_out.lengths))
        if rows == 0:
            raise InputError(
                "the texts of --evaluate have less than three tokens each; give others"
            )
        batches = Batches(held_out, rows, 0, training.buckets)
        found = masked_accuracy(model, objectives.masked_lm(self.masking), batches)
        return f"{100 * found:.2f} % of the masked tokens of texts that are not trained on"

    def save(self, model: MaskedModel, folder: str) -> None:
        """Write a folder for MaskedLM and for transformers."""
        finish.masked_lm(model, self.start.tokenizer, self.start.mask_word).save_pretrained(folder)


class Vectors:
    """What the two tasks have in common that train the vectors of texts."""

    def __init__(self, options: Options) -> None:
        """Open what training begins with, and the pairs that tell how good it is."""
        self.options = options
        self.start = begin(
            options.beginning, options.training.seed, lambda opened: quiet_stack(opened).lower_case
        )
        self.start.check_length(options.training.length)
        self.scored = read_scored(options.evaluate) if options.evaluate else []
        self.without = texts_in(self.scored)

    def model(self) -> TextModel:
        """The encoder with its pooling."""
        return self.start.text_model

    def score(self, model: TextModel) -> str | None:
        """Spearman's correlation on pairs that are not trained on."""
        if not self.scored:
            return None
        embedder = finish.text_embedder(model, self.start.tokenizer, self.start.stack)
        found = correlation(embedder.encode, self.scored)
        return f"Spearman's correlation {found:.2f} on {len(self.scored)} pairs"

    def save(self, model: TextModel, folder: str) -> None:
        """Write a folder for Embedder and for sentence-transformers."""
        embedder = finish.text_embedder(model, self.start.tokenizer, self.start.stack)
        embedder.save_pretrained(folder)


def vector_loss(options: Options) -> Callable[..., Any]:
    """The loss of two lists of vectors that the options name, at all widths that they name."""
    warmth = real(options.own["temperature"], "--temperature", 1e-4)

    def cosent(a: Any, b: Any, *, scores: Any) -> Any:
        return losses.cosent(losses.row_similarity(a, b), scores, 1.0 / warmth)

    def kl(student: Any, teacher: Any) -> Any:
        own, wanted = (losses.cosine_similarity(x, x) for x in (student, teacher))
        return losses.kl(own, wanted, warmth)

    chosen: dict[str, Callable[..., Any]] = {
        "info_nce": partial(losses.info_nce, temperature=warmth),
        "cosent": cosent,
        "cosine": losses.cosine,
        "mse": losses.mse,
        "kl": kl,
    }
    loss = chosen[options.own["loss"]]
    widths = options.own["matryoshka"]
    return loss if widths is None else losses.matryoshka(loss, numbers(widths, "--matryoshka"))


class PairsOfTexts(Vectors):
    """Pairs that are to be alike, with or without negatives: `jaxbert train pairs`."""

    def __init__(self, options: Options, bad: OnBadRow) -> None:
        """Open what training begins with, and read the pairs."""
        super().__init__(options)
        fields = options.fields
        if (options.own["loss"] == "cosent") != (fields.score is not None):
            raise InputError("--loss cosent and --score-field belong together; give both, or none")
        rows = read_pairs(options.inputs, options.kind, fields, bad, self.without)
        self.pairs = pairs(rows, self.start.tokenizer, options.training.length)
        enough(self.pairs.lengths, options)
        self.loss = vector_loss(options)

    @property
    def settings(self) -> dict[str, Any]:
        """The sum of the pairs, and the loss."""
        names = ("loss", "temperature", "matryoshka")
        return {"data_sha256": self.pairs.sha256} | {n: self.options.own[n] for n in names}

    def objective(self) -> Objective:
        """The loss of anchors and positives."""
        training = self.options.training
        return objectives.pairs(self.loss, training.rows, training.dropout)

    def data(self, folder: Path) -> Data:
        """The pairs that were read when this was made."""
        return self.pairs


class OfTeacher(Vectors):
    """Texts whose vectors are to be those of a teacher: `jaxbert train distil`."""

    def __init__(self, options: Options, bad: OnBadRow) -> None:
        """Open what training begins with, find the teacher, and read the texts."""
        super().__init__(options)
        own, given = options.own, options.beginning
        if own["teacher"] is None and given.base is None:
            raise InputError("say which model teaches: --teacher MODEL")
        self.name = str(own["teacher"] or given.base)
        self.revision = given.revision if own["teacher"] is None else None
        self.teacher = open_model(
            self.name, revision=self.revision, ignore_config=given.ignore_config
        )
        if options.own["loss"] != "kl":
            self.check_widths()
        self.texts = self.read(bad)
        self.ids = Ragged.of(self.start.tokenizer(self.texts, options.training.length))
        enough(self.ids.lengths, options)
        self.loss = vector_loss(options)

    def read(self, bad: OnBadRow) -> list[str]:
        """The texts, their sentences, or some of them, as the options say."""
        own, options = self.options.own, self.options
        reading = Reading(options.kind, own["text_field"], "")
        texts = read_texts(options.inputs, reading, bad, self.without)
        if own["sentences"] is not None:
            words = integer(own["sentences"], "--sentences", FEWEST_WORDS)
            texts = (t for t in sentences(texts, words) if t.text not in self.without)
        if own["sample"] is not None:
            number = integer(own["sample"], "--sample", 1)
            texts = iter(sample(texts, number))
        return [own.text for own in texts]

    def check_widths(self) -> None:
        """InputError for a student whose vectors are wider or narrower than the teacher's."""
        stack, config = quiet_stack(self.teacher), self.teacher.stored.config
        teacher = stack.truncate_dim or stack.width(config.hidden_size)
        student = self.start.stack.width(self.start.encoder.config.hidden_size)
        if teacher != student:
            raise InputError(
                f"the student's vectors have {student} features and the teacher's {teacher}; make "
                "them equal, or give --loss kl, which compares similarities"
            )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Which teacher it is, by its files."""
        return identity(self.teacher, self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """The sum of the texts, the teacher and the loss."""
        names = ("loss", "temperature", "matryoshka")
        about = {"data_sha256": sum_of(self.ids), "teacher": self.identity}
        return about | {n: self.options.own[n] for n in names}

    def objective(self) -> Objective:
        """The loss of a student's vectors and the teacher's."""
        training = self.options.training
        return objectives.distil(self.loss, training.rows, training.dropout)

    def data(self, folder: Path) -> Data:
        """The texts with the teacher's vectors, which are in the folder or are computed."""
        ignore = self.options.beginning.ignore_config

        def make() -> Embedder:
            return Embedder.from_pretrained(self.name, revision=self.revision, ignore_config=ignore)

        if self.options.own["vectors"] is not None:
            folder = Path(self.options.own["vectors"])
            folder.mkdir(parents=True, exist_ok=True)
        length = self.options.training.length
        about = {"total": len(self.texts), "unit": "text", "desc": "teacher"}
        with tqdm(**about, disable=self.options.quiet, dynamic_ncols=True) as bar:
            vectors = teacher_vectors(make, self.texts, length, folder, self.identity, bar.update)
        return Taught(self.ids, vectors)


TASKS: dict[str, Callable[[Options, OnBadRow], Task]] = {
    "mlm": MaskedWords,
    "pairs": PairsOfTexts,
    "distil": OfTeacher,
}
