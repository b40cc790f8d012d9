"""Tasks of mteb on texts from local files, with real words and nothing to fetch."""

from datasets import Dataset, DatasetDict
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata


def described(kind, score):
    """The metadata of a task, which must name a dataset that nothing reads."""
    return TaskMetadata(
        name=f"Local{kind}",
        type=kind,
        main_score=score,
        dataset={"path": "local/none", "revision": "1"},
        description="A task on local texts.",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        modalities=["text"],
        category="t2t",
    )


def held(columns):
    """A dataset whose one part is the test."""
    return DatasetDict({"test": Dataset.from_dict(columns)})


def sts(rows):
    """The similarities that people gave to pairs of sentences."""

    class LocalSTS(AbsTaskSTS):
        metadata = described("STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, **_):
            columns = ("sentence1", "sentence2", "score")
            self.dataset = held({name: [row[name] for row in rows] for name in columns})
            self.data_loaded = True

    return LocalSTS()


def pairs(rows):
    """Pairs that people found the same (4 and more of 5) or different (2 and less)."""
    clear = [row for row in rows if row["score"] >= 4 or row["score"] <= 2]

    class LocalPairs(AbsTaskPairClassification):
        metadata = described("PairClassification", "max_ap")

        def load_data(self, **_):
            columns = {name: [row[name] for row in clear] for name in ("sentence1", "sentence2")}
            self.dataset = held(columns | {"labels": [int(row["score"] >= 4) for row in clear]})
            self.data_loaded = True

    return LocalPairs()


def retrieval(texts):
    """To find a text by its first sentence; every third text is asked for, all are searched."""
    halves = [text.split(". ", 1) for text in texts]
    halves = [half for half in halves if len(half) == 2 and min(map(len, half)) > 40]

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = described("Retrieval", "ndcg_at_10")

        def load_data(self, **_):
            numbered = list(enumerate(halves))
            documents = [{"id": f"d{i}", "text": half[1], "title": ""} for i, half in numbered]
            asked = [{"id": f"q{i}", "text": half[0]} for i, half in numbered[::3]]
            self.dataset = {
                "default": {
                    "test": RetrievalSplitData(
                        corpus=Dataset.from_list(documents),
                        queries=Dataset.from_list(asked),
                        relevant_docs={f"q{i}": {f"d{i}": 1} for i, _ in numbered[::3]},
                        top_ranked=None,
                    )
                }
            }
            self.data_loaded = True

    return LocalRetrieval()


def clustering(texts, labels):
    """To find the sources of texts."""

    class LocalClustering(AbsTaskClustering):
        metadata = described("Clustering", "v_measure")
        max_document_to_embed, max_fraction_of_documents_to_embed = None, None

        def load_data(self, **_):
            self.dataset = held({"sentences": texts, "labels": labels})
            self.data_loaded = True

    return LocalClustering()
