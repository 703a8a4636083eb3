"""estimators/generator.py: what SequenceGenerator learns, scores, generates and saves."""

from __future__ import annotations

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rnnfast
from rnnfast.estimators import generator
from rnnfast.estimators.generator import SequenceGenerator
from rnnfast.files import ModelFileError
from rnnfast.preprocessing import Vocabulary

SMALL: dict[str, Any] = {"hidden_size": 16, "embedding_size": 8, "batch_size": 4, "learning_rate": 0.03,
                         "max_epochs": 15, "random_state": 0}  # fmt: skip
SONG = "row, row, row your boat, "
NAMES = ["anna", "anne", "hanna", "nina", "otto", "bob", "tom", "toto"] * 4
SEXES = ["f", "f", "f", "f", "m", "m", "m", "m"] * 4


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Problems this small gain nothing from a second thread, and lose much on a busy machine."""
    before = rnnfast.get_num_threads()
    rnnfast.set_num_threads(1)
    yield
    rnnfast.set_num_threads(before)


@pytest.fixture(scope="module")
def names() -> SequenceGenerator:
    return SequenceGenerator(**{**SMALL, "max_epochs": 40}).fit(NAMES)


@pytest.fixture(scope="module")
def sexes() -> SequenceGenerator:
    return SequenceGenerator(**{**SMALL, "max_epochs": 40}).fit(NAMES, SEXES)


@pytest.fixture(scope="module")
def song() -> SequenceGenerator:
    return SequenceGenerator(**{**SMALL, "hidden_size": 32, "max_epochs": 40}).fit(SONG * 40)


def full_forward(model: SequenceGenerator, ids: list[int], condition: Any = None) -> Any:
    """Logits (K,) after <sos> and the ids, read anew from the start."""
    x: Any = np.array([[Vocabulary.SOS, *ids]])
    return model.network_.forward(x if condition is None else (x, condition))[0, -1]


def log_softmax(z: Any) -> Any:
    z = np.asarray(z, float) - np.max(z)
    return z - np.log(np.exp(z).sum())


# ---- what it learns


def test_a_periodic_text_is_learnt(song: SequenceGenerator) -> None:
    assert song.bits_per_token(SONG * 20) < 0.02
    assert song.score(SONG * 20) == -song.bits_per_token(SONG * 20)
    assert song.perplexity(SONG * 20) == pytest.approx(2 ** song.bits_per_token(SONG * 20))
    prompt = SONG * 2
    assert song.generate(prompt=prompt, max_length=200, temperature=0) == [SONG * 10]
    assert song.generate(prompt=prompt, max_length=50, beam_width=3) == [SONG * 4]
    assert not song.ends_


def test_names_are_learnt(names: SequenceGenerator) -> None:
    drawn = names.generate(60, random_state=0, temperature=0.5, max_length=20)
    assert len(drawn) == 60
    assert {*drawn} - {""} <= {*NAMES}
    assert len({*drawn}) >= 4
    assert names.ends_
    assert names.bits_per_token(NAMES) < 1.3  # 8 names of about 5.1 tokens: log2(8) / 5.1 at best, which is 0.6
    assert names.bits_per_token(["annb", "bto"]) > 2


def test_one_to_many(sexes: SequenceGenerator) -> None:
    women = sexes.generate(30, condition="f", random_state=1, temperature=0.5)
    men = sexes.generate(30, condition="m", random_state=1, temperature=0.5)
    assert {*women} <= {*NAMES[:4]}
    assert {*men} <= {*NAMES[4:8]}
    both = sexes.generate(4, condition=["m", "f", "m", "f"], temperature=0)
    assert both[0] == both[2] in NAMES[4:8]
    assert both[1] == both[3] in NAMES[:4]
    assert sexes.generate(4, condition=["m", "f", "m", "f"], beam_width=3) == [
        sexes.generate(condition=sex, beam_width=3)[0] for sex in "mfmf"
    ]
    assert sexes.log_probability(["otto"], ["m"])[0] > sexes.log_probability(["otto"], ["f"])[0] + 3
    assert sexes.conditions_.classes is not None
    assert sexes.conditions_.classes.tolist() == ["f", "m"]


def test_vectors_as_conditions() -> None:
    """Two numbers: the first tone of a tune, and whether it rises."""
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.integers(0, 5, 80), rng.integers(0, 2, 80) * 2 - 1]).astype(float)
    tunes = [[int(60 + first + k * up) for k in range(4)] for first, up in y]
    model = SequenceGenerator(**{**SMALL, "max_epochs": 30}).fit(tunes, y)
    assert model.generate(condition=[0, 1], temperature=0) == [[60, 61, 62, 63]]
    assert model.generate(2, condition=np.array([[4, -1], [2, 1]]), temperature=0) == [
        [64, 63, 62, 61],
        [62, 63, 64, 65],
    ]


KINDS: dict[str, tuple[Any, dict[str, Any], Any, Any]] = {  # X, parameters, a prompt, what comes next
    "characters": (SONG * 20, {}, SONG + "row, r", "o"),
    "words": (SONG * 40, {"level": "word", "truncate": 16}, SONG + "row, row, row", " your"),
    "long tokens": (["do", "re", "mi", "fa"] * 60, {"level": "token"}, ["do", "re", "mi"], "fa"),
    "long integers": ([60, 62, 64, -1] * 60, {}, [60, 62, 64], -1),
    "integers in an array": (np.array([60, 62, 64, 1] * 60), {}, np.array([60, 62]), 64),
    "texts": (["abc", "abcd"] * 20, {}, "ab", "c"),
    "texts as words": (["the cat sat", "the cat ran."] * 20, {"level": "word"}, "the", " cat"),
    "token lists": ([["do", "re"], ["do", "re", "mi"]] * 20, {}, ["do"], "re"),
    "integer lists": ([[1, 2], [1, 2, 3]] * 20, {}, [1], 2),
    "one-hot": (["abc", "abcd"] * 20, {"embedding_size": 0, "cell": "gru", "num_layers": 2}, "ab", "c"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sequence(kind: str, tmp_path: Path, assert_same_bits: Any) -> None:
    X, parameters, prompt, following = KINDS[kind]
    model = SequenceGenerator(**{**SMALL, "max_epochs": 25, **parameters})
    assert model.fit(X) is model
    prefix = [prompt] if isinstance(X[0], str) and len(X[0]) > 1 and isinstance(prompt, str) else prompt
    assert model.predict(prefix) == [following]
    (drawn,) = model.generate(prompt=prompt, max_length=1, temperature=0)
    assert type(drawn) is (str if isinstance(prompt, str) else list)
    assert drawn == (prompt + following if isinstance(prompt, str) else [*prompt, following])
    model.save(tmp_path / "model")
    twin = SequenceGenerator.load(tmp_path / "model")
    assert_same_bits(twin.predict_proba(prefix), model.predict_proba(prefix))
    assert_same_bits(twin.log_probability(X), model.log_probability(X))
    arguments: dict[str, Any] = {"prompt": prompt, "max_length": 30, "random_state": 5}
    assert twin.generate(3, **arguments) == model.generate(3, **arguments)
    assert twin.n_features_in_ == model.n_features_in_ == len(model.encoder_.vocabulary)


def test_padded_and_joined_integers(assert_same_bits: Any) -> None:
    tunes = [[1, 2, 3], [3, 2], [1, 3]] * 6
    model = SequenceGenerator(**SMALL).fit(tunes)
    padded, lengths = rnnfast.pad(tunes)
    for X in (padded, np.concatenate(tunes)):
        other = SequenceGenerator(**SMALL).fit(X, lengths=lengths)
        assert_same_bits(other.network_.vector, model.network_.vector)
        assert_same_bits(other.log_probability(X, lengths=lengths), model.log_probability(tunes))


# ---- the rows of one long text, and the state that is carried


@pytest.mark.parametrize("length", [100, 240, 241, 257, 7])
def test_rows_of_a_long_text(length: int, assert_same_bits: Any) -> None:
    """The same bits as rnnfast.fit on rows that are cut by hand."""
    text = np.random.default_rng(0).integers(10, 15, length)
    settings: dict[str, Any] = {
        "batch_size": 4,
        "truncate": 20,
        "max_epochs": 2,
        "learning_rate": 0.01,
        "schedule": "linear",
    }
    model = SequenceGenerator(hidden_size=5, embedding_size=3, random_state=0, **settings).fit(text)
    ids = model.encoder_.encode(text, "X")
    rows = min(4, int(np.ceil(length / 20)))
    T = int(np.ceil(length / rows))
    parts = [ids[start : start + T] for start in range(0, length, T)]
    y, lengths = rnnfast.pad(parts)
    x = np.column_stack([np.full(len(parts), Vocabulary.SOS), y[:, :-1]])
    network = rnnfast.Network(9, 5, 9, embedding_size=3, per_step=True, seed=0)
    settings["optimizer"] = rnnfast.Adam(settings.pop("learning_rate"))
    rnnfast.fit(network, x, y, lengths=lengths, shuffle=False, bucket=False, seed=0, **settings)
    assert_same_bits(model.network_.vector, network.vector)


# ---- scores


@pytest.mark.parametrize("numbers", [generator.NUMBERS, 700, 1])
def test_log_probability(numbers: int, names: SequenceGenerator, song: SequenceGenerator, monkeypatch: Any) -> None:
    """By the definition, one token at a time, however many logits are computed at once."""
    monkeypatch.setattr(generator, "NUMBERS", numbers)
    monkeypatch.setattr(generator, "ROWS", 3)
    for model, X in ((names, ["anna", "", "zo", "nina" * 9, "b"]), (song, [SONG, "x" + SONG * 5, "row"])):
        expected = []
        for text in X:
            ids = [*model.encoder_.encode(text, "X").tolist(), *([Vocabulary.EOS] if model is names else [])]
            expected.append(sum(log_softmax(full_forward(model, ids[:k]))[id] for k, id in enumerate(ids)))
        got = model.log_probability(X)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        assert model.log_probability(X[0]) == pytest.approx(got[:1], rel=1e-6)
        next_tokens = [log_softmax(full_forward(model, model.encoder_.encode(text, "X").tolist())) for text in X]
        np.testing.assert_allclose(np.log(model.predict_proba(X)), next_tokens, rtol=1e-4, atol=1e-4)
        counts = [len(text) + (model is names) for text in X]
        assert model.bits_per_token(X) == pytest.approx(-sum(expected) / sum(counts) / np.log(2), rel=1e-5)


def test_chain_rule(sexes: SequenceGenerator) -> None:
    prefixes = ["otto"[:k] for k in range(5)]
    p = sexes.predict_proba(prefixes, ["m"] * 5)
    vocabulary = sexes.encoder_.vocabulary
    assert (p.shape, p.dtype) == ((5, len(vocabulary)), np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    following = [*(vocabulary[c] for c in "otto"), Vocabulary.EOS]
    log_p = np.log(p[np.arange(5), following]).sum()
    assert sexes.log_probability(["otto"], ["m"])[0] == pytest.approx(log_p, rel=1e-4)
    assert sexes.predict(["ott", "otto", "ann"], ["m", "m", "f"])[:2] == ["o", None]


def test_probabilities_of_all_sequences_sum_to_one(names: SequenceGenerator) -> None:
    """Of all sequences of up to two tokens, and all longer ones."""
    tokens = [t for t in names.encoder_.vocabulary.tokens if len(t) == 1]
    short = ["".join(found) for k in (0, 1, 2) for found in itertools.product(tokens, repeat=k)]
    total = np.exp(names.log_probability(short)).sum()
    p1 = names.predict_proba([""])[0]
    ids = [names.encoder_.vocabulary[t] for t in tokens]
    p2 = names.predict_proba(tokens)[:, ids]
    p3 = names.predict_proba(["".join(pair) for pair in itertools.product(tokens, repeat=2)])
    longer = (p1[ids, None] * p2).ravel() @ p3[:, ids].sum(axis=1)
    unseen = 1 - p1[[*ids, Vocabulary.EOS]].sum()
    assert 0.99 - unseen < total + longer <= 1.0001


# ---- generation


@pytest.mark.parametrize("cell", rnnfast.cells())
@pytest.mark.parametrize(("num_layers", "embedding_size"), [(1, 6), (2, 0)])
def test_streams_walk_as_the_network_does(cell: str, num_layers: int, embedding_size: int) -> None:
    """Greedy generation equals the argmax of the whole network on the prefix, at every step."""
    text = "".join(np.random.default_rng(0).choice(list("abcdefg"), 300))
    settings = {"hidden_size": 9, "num_layers": num_layers, "embedding_size": embedding_size, "dropout": 0.2}
    model = SequenceGenerator(cell=cell, **settings, max_epochs=2, learning_rate=0.01, random_state=0)
    model.fit([text[i : i + 9] for i in range(0, 300, 9)])
    blocked = [Vocabulary.PAD, Vocabulary.SOS, Vocabulary.UNK]
    for prompt in ("", "abcabcgg"):
        ids = model.encoder_.encode(prompt, "X").tolist()
        for _ in range(25):
            logits = full_forward(model, ids)
            logits[blocked] = -np.inf
            if logits.argmax() == Vocabulary.EOS:
                break
            ids.append(int(logits.argmax()))
        drawn = model.generate(3, prompt=prompt, max_length=len(ids) - len(prompt), temperature=0)
        assert drawn == ["".join(model.encoder_.vocabulary.decode(ids))] * 3


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_condition_starts_every_layer(cell: str) -> None:
    settings: dict[str, Any] = {**SMALL, "cell": cell, "num_layers": 2, "max_epochs": 3}
    model = SequenceGenerator(**settings).fit(NAMES, np.random.default_rng(0).normal(size=(len(NAMES), 3)))
    for condition in np.random.default_rng(1).normal(0, 3, (3, 3)):
        ids: list[int] = []
        for _ in range(12):
            logits = full_forward(model, ids, condition[None])
            logits[[Vocabulary.PAD, Vocabulary.SOS, Vocabulary.UNK]] = -np.inf
            if logits.argmax() == Vocabulary.EOS:
                break
            ids.append(int(logits.argmax()))
        expected = ["".join(model.encoder_.vocabulary.decode(ids))]
        assert model.generate(condition=condition, temperature=0, max_length=12) == expected
        logits = full_forward(model, ids, condition[None])
        np.testing.assert_allclose(
            np.log(model.predict_proba(expected, condition[None])[0]), log_softmax(logits), rtol=1e-4
        )


def test_frequencies(names: SequenceGenerator) -> None:
    n = 3000
    p = names.predict_proba([""])[0].astype(float)
    p[[Vocabulary.PAD, Vocabulary.SOS, Vocabulary.UNK]] = 0
    p /= p.sum()
    drawn = names.generate(n, max_length=1, random_state=3)
    vocabulary = names.encoder_.vocabulary
    counts = np.bincount([vocabulary[t] if t else Vocabulary.EOS for t in drawn], minlength=len(p))
    often = n * p >= 5
    observed, expected = [*counts[often], counts[~often].sum()], [*(n * p[often]), n * p[~often].sum()]
    chi_square = sum((a - b) ** 2 / b for a, b in zip(observed, expected, strict=True) if b > 0)
    assert chi_square < 30  # of at most 9 degrees of freedom: 99.95 %


def test_a_condition_and_the_first_token_are_drawn_apart(sexes: SequenceGenerator) -> None:
    """Row i of a batch is what it is alone with its own numbers: here greedily, with conditions."""
    conditions = ["f", "m", "m", "f", "m"]
    together = sexes.generate(5, condition=conditions, temperature=0, prompt="n")
    assert together == [sexes.generate(condition=c, temperature=0, prompt="n")[0] for c in conditions]


def test_the_same_seed(names: SequenceGenerator, assert_same_bits: Any) -> None:
    first = names.generate(5, random_state=1, temperature=1.5)
    assert names.generate(5, random_state=1, temperature=1.5) == first
    assert names.generate(5, random_state=np.random.default_rng(1), temperature=1.5) == first
    assert names.generate(5, random_state=2, temperature=1.5) != first
    assert names.generate(5, temperature=1.5) != names.generate(5, temperature=1.5)
    rnnfast.set_num_threads(2)
    twin = SequenceGenerator(**{**SMALL, "max_epochs": 40}, n_jobs=2).fit(NAMES)
    assert twin.generate(5, random_state=1, temperature=1.5) == first
    rnnfast.set_num_threads(1)
    assert_same_bits(twin.network_.vector, names.network_.vector)


def test_a_beam_finds_the_likeliest(names: SequenceGenerator) -> None:
    tokens = [t for t in names.encoder_.vocabulary.tokens if len(t) == 1]
    whole = ["".join(found) for k in range(3) for found in itertools.product(tokens, repeat=k)]
    cut = ["".join(found) for found in itertools.product(tokens, repeat=3)]
    p3 = {text: 0.0 for text in cut}
    p1, p2 = names.predict_proba([""])[0], names.predict_proba(tokens)
    ids = {t: names.encoder_.vocabulary[t] for t in tokens}
    after = dict(zip(tokens, p2, strict=True))
    pairs = ["".join(pair) for pair in itertools.product(tokens, repeat=2)]
    after |= dict(zip(pairs, names.predict_proba(pairs), strict=True))
    for text in cut:
        p3[text] = np.log([p1[ids[text[0]]], after[text[0]][ids[text[1]]], after[text[:2]][ids[text[2]]]]).sum() / 3
    scores = {text: s / (len(text) + 1) for text, s in zip(whole, names.log_probability(whole), strict=True)} | p3
    best = sorted(scores, key=lambda text: -scores[text])[:4]
    assert names.generate(4, max_length=3, beam_width=1000) == best
    greedy = names.generate(max_length=20, temperature=0)
    assert names.generate(max_length=20, beam_width=1) == greedy


def test_what_never_comes() -> None:
    """Rare tokens are read as <unk>, which is not written, and nor are <pad> and <sos>."""
    text = "".join(np.random.default_rng(0).choice([*"ab" * 20, *(chr(0x4E00 + i) for i in range(40))], 300))
    model = SequenceGenerator(**{**SMALL, "max_epochs": 9, "min_count": 20, "truncate": 8}).fit(text)
    assert {*model.encoder_.vocabulary.tokens[4:]} == {*"ab"} != {*text}
    p = model.predict_proba("ab")[0]
    assert p[Vocabulary.UNK] > 0.3
    known = {*model.encoder_.vocabulary.tokens[4:]}
    assert all({*drawn} <= known for drawn in model.generate(20, random_state=0, temperature=5.0, max_length=50))
    assert {*model.generate(beam_width=3, max_length=50)[0]} <= known
    assert model.predict("ab")[0] in known
    long = SequenceGenerator(**{**SMALL, "max_epochs": 1}).fit(["a", "<eos>", "b", "<unk>"] * 20)  # four texts
    assert all("<unk>" not in drawn for drawn in long.generate(20, random_state=0))
    special = SequenceGenerator(**{**SMALL, "max_epochs": 1}, level="token").fit(["a", "<eos>", "b", "<unk>"] * 20)
    drawn = [token for tokens in special.generate(20, random_state=0, max_length=30) for token in tokens]
    assert {*drawn} == {"a", "b", "<eos>"}


def test_stop(song: SequenceGenerator, names: SequenceGenerator) -> None:
    assert song.generate(prompt=SONG, temperature=0, stop="y") == [SONG + "row, row, row "]
    assert song.generate(prompt=SONG, beam_width=2, stop="y") == [SONG + "row, row, row "]
    assert song.generate(prompt=SONG, temperature=0, stop="y", max_length=5) == [SONG + "row, "]
    assert all(name.isalpha() and "t" not in name for name in names.generate(30, stop="t", random_state=0, prompt="a"))
    words = SequenceGenerator(**SMALL, level="word").fit(["the cat sat. it ran."] * 20)
    assert words.generate(temperature=0, stop=".") == ["the cat sat"]
    assert words.generate(temperature=0, stop="ran") == ["the cat sat. it"]
    notes = SequenceGenerator(**SMALL).fit([60, 62, 64, -1] * 40)
    assert notes.generate(prompt=[60], temperature=0, stop=-1) == [[60, 62, 64]]


def test_a_long_prompt_and_unseen_characters(song: SequenceGenerator) -> None:
    prompt = SONG * 150
    assert song.generate(prompt=prompt, temperature=0, max_length=len(SONG)) == [prompt + SONG]
    strange = "Жöц" + SONG * 2
    assert song.encoder_.unseen(strange) == {"Ж": 1, "ö": 1, "ц": 1}
    assert song.generate(prompt=strange, temperature=0, max_length=len(SONG)) == [strange + SONG]
    assert song.generate(prompt=unicodedata.normalize("NFD", strange), max_length=1)[0].startswith("Ж")
    assert np.isfinite(song.log_probability(strange)).all()


# ---- training


def test_the_end_of_a_long_text_is_held_out() -> None:
    model = SequenceGenerator(**{**SMALL, "max_epochs": 2}, validation_fraction=0.25).fit("ab" * 90 + "cd" * 30)
    assert model.encoder_.vocabulary.tokens[4:] == ["a", "b"]
    assert len(model.history_["val_loss"]) == 2
    lists = SequenceGenerator(**{**SMALL, "max_epochs": 2}, validation_fraction=0.25).fit(NAMES, SEXES)
    assert len(lists.history_["val_loss"]) == 2


@pytest.mark.parametrize("form", ["X", "(X, y)"])
def test_validation(form: str) -> None:
    """The loss of validation data is what bits_per_token says of the best pass."""
    held_out = ["anna", "bob", "toto"]
    for X, y, validation in ((NAMES, None, held_out), (NAMES, SEXES, (held_out, ["f", "m", "m"]))):
        if (y is None) != (form == "X"):
            continue
        model = SequenceGenerator(**SMALL).fit(X, y, validation=validation)
        best = min(model.history_["val_loss"])
        given = validation if isinstance(validation, tuple) else (validation, None)
        assert model.bits_per_token(*given) * np.log(2) == pytest.approx(best, rel=1e-5)


def test_a_long_text_is_validated_in_rows() -> None:
    """Of four pieces, each read from the start: no more logits at once than training has."""
    held_out = SONG * 4
    model = SequenceGenerator(**{**SMALL, "max_epochs": 2}, truncate=5).fit(SONG * 9, validation=held_out)
    cut = [held_out[start : start + 20] for start in range(0, 100, 20)]
    assert min(model.history_["val_loss"]) == pytest.approx(-model.log_probability(cut).sum() / 100, rel=1e-5)
    assert model.bits_per_token(cut) != pytest.approx(model.bits_per_token(held_out), rel=1e-3)


def test_warm_start_and_checkpoint(tmp_path: Path, assert_same_bits: Any) -> None:
    model = SequenceGenerator(**SMALL, warm_start=True).fit(NAMES)
    before, encoder, forbidden = model.log_probability(["anna"])[0], model.encoder_, model._forbidden
    model.fit(["anna", "zoe"] * 5)
    assert model.encoder_ is encoder
    assert model._forbidden == forbidden  # a letter that was learnt then, and does not come now, still may
    assert model.log_probability(["anna"])[0] > before + 0.5
    with pytest.raises(ValueError, match=r"X: expected a list of sequences as in the first fit"):
        model.fit("anna")
    once = SequenceGenerator(**{**SMALL, "max_epochs": 4}).fit(NAMES)
    part = SequenceGenerator(**{**SMALL, "max_epochs": 4, "schedule": "constant"})
    part.set_params(max_epochs=2).fit(NAMES, checkpoint=tmp_path / "checkpoint")
    part.set_params(max_epochs=4).fit(NAMES, checkpoint=tmp_path / "checkpoint")
    once = SequenceGenerator(**{**SMALL, "max_epochs": 4, "schedule": "constant"}).fit(NAMES)
    assert_same_bits(part.network_.vector, once.network_.vector)


def test_parameters() -> None:
    model = SequenceGenerator()
    assert "bidirectional" not in model.get_params()
    assert not model.bidirectional
    with pytest.raises(ValueError, match="bidirectional: expected one of"):
        model.set_params(bidirectional=True)
    assert {"level", "min_count", "truncate", "schedule", "initial_state_std"} <= {*model.get_params()}
    documented = SequenceGenerator.__doc__ or ""
    for name in model.get_params():
        assert re.search(rf"(?m)^(\w.*, )?{name}\b.* :", documented), name
    assert "bidirectional : " not in documented
    assert "{parameters}" not in documented


@pytest.mark.slow
def test_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import cross_val_score

    model = SequenceGenerator(**{**SMALL, "max_epochs": 2})
    assert repr(sklearn.clone(model)) == repr(model)
    assert (cross_val_score(model, NAMES, cv=3) < 0).all()


# ---- errors


@pytest.mark.parametrize(
    ("parameters", "arguments", "error", "message"),
    [
        ({}, {"X": ""}, ValueError, "X: expected at least one token, got ''"),
        ({}, {"X": ["ab", ""]}, ValueError, "X[1]: expected at least one token, got ''"),
        ({}, {"X": []}, ValueError, "X: expected at least one sequence, got none"),
        ({}, {"X": None}, TypeError, "X: expected a list of sequences, got NoneType"),
        ({}, {"X": 5}, TypeError, "X: expected a list of sequences, got int"),
        ({}, {"X": "abc", "y": ["a"]}, ValueError, "y: expected None with one long text"),
        ({}, {"X": ["ab", "c"], "y": ["a"]}, ValueError, "y: expected at least two classes, got 1 class, 'a'"),
        ({}, {"X": ["ab", "c", "d"], "y": ["a", "b"]}, ValueError, "y: expected (N,) = (3,) labels, got (2,)"),
        ({"level": "letter"}, {"X": "abc"}, ValueError, "level: expected None or one of character, word, token"),
        (
            {"level": "token"},
            {"X": "abc"},
            ValueError,
            "X: expected lists of strings or of integers with level='token'",
        ),
        ({"level": "word"}, {"X": [1, 2]}, ValueError, "X: expected strings with level='word', got ids"),
        ({"min_count": 3}, {"X": "abcab"}, ValueError, "min_count = 3: expected tokens that come so often, got none"),
        ({"batch_size": "4"}, {"X": "abc"}, TypeError, "batch_size: expected a positive integer, got '4'"),
        ({"truncate": 0}, {"X": "abc"}, ValueError, "truncate: expected a positive integer, got 0"),
        ({"validation_fraction": 0.1}, {"X": "abc"}, ValueError, "validation_fraction = 0.1: 3 sequences are too few"),
        ({}, {"X": ["ab"], "validation": "a", "y": None}, None, ""),
        (
            {},
            {"X": ["ab"], "validation": (["a"], ["x"])},
            ValueError,
            "validation: expected None, since fit was given no y",
        ),
        ({}, {"X": ["ab"], "validation": [["a"]]}, ValueError, "validation: expected a string as in fit, got ['a']"),
        ({"schedule": "sine"}, {"X": "abc"}, ValueError, "schedule: expected one of"),
        ({"dtype": "float16"}, {"X": "abc"}, TypeError, "dtype: expected float32 or float64"),
    ],
)
def test_errors_of_fit(parameters: Any, arguments: Any, error: type[Exception] | None, message: str) -> None:
    model = SequenceGenerator(**{**SMALL, "max_epochs": 1, **parameters})
    if error is None:
        model.fit(**arguments)
        return
    with pytest.raises(error, match=re.escape(message)):
        model.fit(**arguments)
    assert not model.__sklearn_is_fitted__()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: expected a positive integer, got 0"),
        ({"n": 2.5}, TypeError, "n: expected a positive integer, got 2.5"),
        ({"prompt": ["a"]}, ValueError, "prompt: expected a string as in fit, got ['a']"),
        ({"condition": "f"}, ValueError, "condition: expected None, since fit was given no y"),
        ({"max_length": 0}, ValueError, "max_length: expected a positive integer, got 0"),
        ({"temperature": -1}, ValueError, "temperature: expected a number of 0 or more, got -1"),
        ({"top_k": 0}, ValueError, "top_k: expected a positive integer, got 0"),
        ({"top_p": 2}, ValueError, "top_p: expected None or a number in (0, 1], got 2"),
        ({"beam_width": 0}, ValueError, "beam_width: expected a positive integer, got 0"),
        (
            {"beam_width": 2, "temperature": 0.5},
            ValueError,
            "beam_width: expected None with temperature, top_k or top_p",
        ),
        ({"beam_width": 2, "n": 3}, ValueError, "n_best: expected at most beam_width = 2, got 3"),
        ({"stop": "an"}, ValueError, "stop: expected None or one character that fit saw, got 'an'"),
        ({"stop": "z"}, ValueError, "stop: expected None or one character that fit saw, got 'z'"),
        ({"stop": 3}, ValueError, "stop: expected None or one character that fit saw, got 3"),
    ],
)
def test_errors_of_generate(arguments: Any, error: type[Exception], message: str, names: SequenceGenerator) -> None:
    with pytest.raises(error, match=re.escape(message)):
        names.generate(**arguments)


def test_errors_of_conditions(sexes: SequenceGenerator) -> None:
    with pytest.raises(ValueError, match=r"condition: expected a condition for each sequence, as in fit: 'f', 'm'"):
        sexes.generate()
    with pytest.raises(ValueError, match=r"condition\[0\] = 'x': expected one of the classes seen in fit, 'f', 'm'"):
        sexes.generate(condition="x")
    with pytest.raises(ValueError, match=re.escape("condition: expected (N,) = (3,) labels, got (2,)")):
        sexes.generate(3, condition=["f", "m"])
    with pytest.raises(ValueError, match=r"y: expected a condition for each sequence"):
        sexes.log_probability(["anna"])


def test_errors_of_scores(song: SequenceGenerator) -> None:
    with pytest.raises(ValueError, match="X: expected at least one token, got none"):
        song.bits_per_token("")
    with pytest.raises(ValueError, match=re.escape("X[1]: expected a string as in fit, got [3]")):
        song.log_probability(["a", [3]])
    for call in (lambda m: m.generate(), lambda m: m.predict_proba("a"), lambda m: m.score("a"), lambda m: m.save("x")):
        with pytest.raises(RuntimeError, match="SequenceGenerator: expected a fitted model; call fit first"):
            call(SequenceGenerator())


def test_damaged_files(tmp_path: Path, names: SequenceGenerator, monkeypatch: Any) -> None:
    path = tmp_path / "model"
    names.save(path)
    described = names._describe()
    for changes in (
        {"ends": 1}, {"forbidden": [99]}, {"forbidden": None}, {"encoder": {**described["encoder"], "kind": "ids"}},
        {"encoder": {**described["encoder"], "tokens": ["a"]}}, {"conditions": {"size": 2, "labels": None}},
    ):  # fmt: skip
        monkeypatch.setattr(SequenceGenerator, "_describe", lambda self, changes=changes: {**described, **changes})
        names.save(path)
        with pytest.raises(ModelFileError, match="expected a whole SequenceGenerator, got one with"):
            SequenceGenerator.load(path)
