"""An attack on model folders: thousands are spoiled by a seed, loaded, and judged.

    python -m tests.attack --number 20000 --seed 1
    python -m tests.attack --seed 1 --only 4711

A folder is refused with an error of jaxbert, or it loads. What loads is compared with the whole
folder: every weight, setting and token id. A foreign exception, a process that dies or hangs, and
a difference that can be known and was not noticed are faults, and the exit status is then 1.

    vocabularies.py, folders.py   whole folders of every kind
    spoil.py                      what a mutation is, and how one is drawn
    files.py, values.py, tensors.py, stacks.py, tokens.py, steps.py   mutations
    judge.py                      what became of a folder
    pool.py                       processes that may die or hang
    table.py, one.py              the counts; one folder looked at closely
    runs.py                       the same for runs that were broken off, and their outputs
"""
