"""EncoderDecoder: one recurrent network reads the source, another writes the target, with or without attention.

The architecture that training.py trains for sequences which are not aligned, with the same members as network.Network;
Pairs gives it batches, and a search (sampling.py) drives it one token at a time. It knows layers and softmax, but
no loss or optimiser, nor what a token stands for.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core
from .checks import generator_of
from .finite import check, check_parameters
from .layers import Array, Dense, Embedding, Initializer, Layer, Recurrent, dropout_mask, size_of
from .losses import softmax
from .network import Model, check_options
from .random_rows import normal
from .sequences import Sequences

__all__ = ["Attention", "Encoded", "EncoderDecoder", "Pairs"]

Batch = tuple[ArrayLike, ArrayLike | None, ArrayLike]  # source, its lengths, target shifted by the start token


class Attention(Layer):
    """Global attention: each step of the decoder reads a weighted mean of all steps of the encoder.

    With h (T, H) of the decoder and m (S, M), the memory, of the encoder::

        α = softmax over S of h (m Wa)ᵀ      h~ = tanh(α m Wc + h Wh + b)

    This is the "general" score of Luong et al. (2015), Effective approaches to attention-based neural machine
    translation, whose Wc [context; h] is two products here; there is no input feeding, so that all T steps of the
    decoder are one call. m Wa (the keys) and m Wc (the values) are computed once for a source.

    Parameters
    ----------
    memory_size, hidden_size : int
        M and H. ``Wm`` (M, 2 H) is Wa and Wc side by side.
    dtype : float32 or float64
    seed : int or Generator, optional
        Weights start uniform, b at 0 (Glorot and Bengio 2010).

    Attributes
    ----------
    weights : array (N, T, S) or None
        α of the last forward pass; exactly 0 past the length of a source.
    """

    def __init__(
        self,
        memory_size: int,
        hidden_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        M, H = memory_size, hidden_size
        super().__init__({"Wm": (M, 2 * H), "Wh": (H, H), "b": (H,)}, dtype)
        rng, Wm = generator_of(seed), self.parameters["Wm"]
        for W, inputs in ((Wm[:, :H], M), (Wm[:, H:], M + H), (self.parameters["Wh"], M + H)):
            limit = (6 / (inputs + H)) ** 0.5
            W[...] = rng.uniform(-limit, limit, W.shape)
        self.weights: Array | None = None
        self._no_bias = np.zeros(2 * H, self.dtype)

    def project(self, memory: Array, lengths: Array | None = None, *, training: bool = False) -> Array:
        """Keys and values (N, S, 2 H) of a memory (N, S, M); 0 past the lengths, whatever stands there."""
        self._keep(training, (memory, lengths), "memory")
        return _core.dense(memory, self.parameters["Wm"], self._no_bias, lengths)

    def project_backward(self, d: Array) -> Array:
        """Gradient of the memory, from that of its keys and values."""
        ignored = np.empty_like(self._no_bias)
        with self._taken("memory") as (memory, lengths):
            dm: Array = _core.dense_gradient(memory, self.parameters["Wm"], d, self.gradients["Wm"], ignored, lengths)
        return dm

    def forward(
        self,
        h: Array,
        projected: Array,
        memory_lengths: Array | None = None,
        *,
        lengths: Array | None = None,
        training: bool = False,
    ) -> Array:
        """Return h~ (N, T, H), from h (N, T, H) and what :meth:`project` returned for the memory."""
        H = h.shape[2]
        keys, values = projected[..., :H], projected[..., H:]
        scores: Array = h @ keys.swapaxes(1, 2)  # (N, T, S)
        if memory_lengths is not None:
            n = memory_lengths[:, None]
            padded = np.arange(projected.shape[1]) >= n  # (N, S)
            scores += np.where(padded & (n > 0), -np.inf, 0).astype(scores.dtype)[:, None]
        self.weights = weights = softmax(scores) if scores.size else scores
        if memory_lengths is not None:
            weights[memory_lengths == 0] = 0
        out = _core.dense(h, self.parameters["Wh"], self.parameters["b"], lengths)
        out += weights @ values
        np.tanh(out, out=out)
        if self.check_finite:
            check_parameters(self.name, self.parameters)
            check(f"{self.name}: output", out, lengths)
        self._keep(training, (h, projected, lengths, weights, out))
        return out

    def backward(self, d: Array) -> tuple[Array, Array]:
        """Gradients of h and of keys and values, from that of h~, which must be 0 at padded steps."""
        with self._taken() as left:
            return self._backward(d, *left)

    def _backward(
        self, d: Array, h: Array, projected: Array, lengths: Array | None, weights: Array, out: Array
    ) -> tuple[Array, Array]:
        H = h.shape[2]
        keys, values = projected[..., :H], projected[..., H:]
        d = d * (1 - out * out)
        d_scores: Array = d @ values.swapaxes(1, 2)
        d_scores -= np.einsum("nts,nts->nt", d_scores, weights)[..., None]
        d_scores *= weights
        d_projected = np.empty_like(projected)
        np.matmul(d_scores.swapaxes(1, 2), h, out=d_projected[..., :H])
        np.matmul(weights.swapaxes(1, 2), d, out=d_projected[..., H:])
        dh = _core.dense_gradient(h, self.parameters["Wh"], d, self.gradients["Wh"], self.gradients["b"], lengths)
        dh += d_scores @ keys
        if self.check_finite:
            check(f"{self.name}: gradient of h", dh, lengths)
            check(f"{self.name}: gradient of the memory", d_projected, steps=False)
            check_parameters(self.name, {k: self.gradients[k] for k in ("Wh", "b")}, "gradient of")
        return dh, d_projected


@dataclass(frozen=True)
class Encoded:
    """Sources that were read once, to be decoded token by token; see :meth:`EncoderDecoder.encode`.

    Attributes
    ----------
    projected : array (N, S, 2 H) or None
        Keys and values, for ``Attention``.
    lengths : array (N,) or None
        Of the sources.
    state : tuple of arrays (num_layers, N, H)
        Of the decoder, before its first token.
    """

    projected: Array | None
    lengths: Array | None
    state: tuple[Array, ...]

    @property
    def start(self) -> tuple[Array, ...]:
        """The state of a search with one hypothesis for each source: its source, then the decoder's state by rows."""
        return (np.arange(self.state[0].shape[1]), *(s.swapaxes(0, 1) for s in self.state))


class EncoderDecoder(Model):
    """(Embedding) → encoder → bridge → decoder on the target so far → (attention) → Dense.

    With x the source and y_1 .. y_n the target, which the decoder is taught one token ahead (teacher forcing)::

        m, s = encoder(x)      s' = Dense(s) for each layer and each of h, c      (the bridge)
        h = decoder(<sos> y_1 .. y_n, from s')      h~ = attention(h, m), or h      logits = h~ W + b

    and the logits of step t stand for y_t, of the last one for <eos>.

    Parameters
    ----------
    source_size, target_size : int
        Features of a step, or the size of the vocabulary; size of the target's vocabulary.
    hidden_size : int
        H, units of each layer and direction of the encoder, and of each layer of the decoder.
    cell : str
        One of :func:`rnnfast.cells`, for both.
    num_layers : int
        Of the encoder and of the decoder.
    bidirectional : bool
        Whether the encoder walks both ways; the decoder never does.
    embedding_size : int, optional
        Of the source. None: (N, S, source_size) features. 0: token ids as one-hot words. Positive: token ids through an
        :class:`Embedding` of this size.
    target_embedding : int
        The same for the target, which is token ids: 0 or positive.
    attention : bool
        See ``Attention`` in encoder_decoder.py. Without it the decoder knows of the source what its first state holds.
    dropout : float
        On the embeddings, between the layers, and before the Dense layer.
    recurrent_init, forget_bias :
        As in :class:`LSTM`.
    initial_state_std : float
        Training starts the encoder from random states of this deviation, instead of zero ones.
    dtype : float32 or float64
    seed : int, optional
    num_threads, recompute : int, optional
        As in :func:`rnnfast.forward`.

    Attributes
    ----------
    vector, gradient_vector : arrays
        All parameters and all gradients; those of the layers are views into them.
    attention_weights : array (N, T, S) or None
        How much step t of the last forward pass read of each step of its source.
    state : tuple of arrays or None
        Of the decoder, after the last forward pass.

    References
    ----------
    Sutskever et al. (2014), Sequence to sequence learning with neural networks; Cho et al. (2014), Learning phrase
    representations using RNN encoder-decoder. Luong et al. (2015) for the attention.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.encoder_decoder import EncoderDecoder, Pairs
    >>> pairs = Pairs([[4, 5, 6], [7]], [[5, 4], [6, 6, 4]])
    >>> x, y, lengths = pairs.batch(np.array([0, 1]))
    >>> model = EncoderDecoder(8, 7, 4, embedding_size=3, target_embedding=3, seed=0)
    >>> model.forward(x, lengths=lengths).shape, y.tolist()
    ((2, 4, 7), [[5, 4, 2, 0], [6, 6, 4, 2]])
    """

    # What training.py asks: there are outputs for each step of the target, and whole sequences are needed.
    per_step = bidirectional = True

    def __init__(
        self,
        source_size: int,
        target_size: int,
        hidden_size: int,
        *,
        cell: str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_size: int | None = 32,
        target_embedding: int = 32,
        attention: bool = True,
        dropout: float = 0.0,
        recurrent_init: Initializer = "orthogonal",
        forget_bias: float = 1.0,
        initial_state_std: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        num_threads: int | None = None,
        recompute: int | None = None,
    ) -> None:
        rng = generator_of(seed)
        self.rng, self.dropout, self.dtype = rng, dropout, np.dtype(dtype)
        check_options(initial_state_std, attention=attention)
        source_size, target_size = size_of("source_size", source_size), size_of("target_size", target_size)
        hidden_size = size_of("hidden_size", hidden_size)
        embedding_size = size_of("embedding_size", embedding_size) if embedding_size else None
        target_embedding = size_of("target_embedding", target_embedding) if target_embedding else 0
        self.initial_state_std = initial_state_std
        options: dict[str, Any] = {"dtype": dtype, "seed": rng}
        self.source_embedding = Embedding(source_size, embedding_size, **options) if embedding_size else None
        self.target_embedding = Embedding(target_size, target_embedding, **options) if target_embedding else None
        recurrent: dict[str, Any] = {
            **options,
            "recurrent_init": recurrent_init,
            "forget_bias": forget_bias,
            "num_threads": num_threads,
            "recompute": recompute,
        }
        self.encoder = Recurrent(
            cell, embedding_size or source_size, hidden_size, num_layers, bidirectional, dropout, **recurrent
        )
        self.decoder = Recurrent(
            cell, target_embedding or target_size, hidden_size, num_layers, False, dropout, **recurrent
        )
        memory_size = self.encoder.hidden_size * self.encoder.directions
        self.bridge = [
            [Dense(memory_size, hidden_size, **options) for _ in range(num_layers)] for _ in range(self.encoder.states)
        ]
        self.attention = Attention(memory_size, hidden_size, **options) if attention else None
        self.dense = Dense(hidden_size, target_size, **options)
        layers: dict[str, Layer | None] = {
            "source_embedding": self.source_embedding,
            "target_embedding": self.target_embedding,
            "encoder": self.encoder,
            "decoder": self.decoder,
            **{f"bridge_{'hc'[k]}_l{i}": dense for k, row in enumerate(self.bridge) for i, dense in enumerate(row)},
            "attention": self.attention,
            "dense": self.dense,
        }
        self._join({name: layer for name, layer in layers.items() if layer is not None})

    @property
    def attention_weights(self) -> Array | None:
        return None if self.attention is None else self.attention.weights

    def forward(
        self,
        x: Batch,
        *,
        lengths: ArrayLike | None = None,
        state: None = None,
        training: bool = False,
    ) -> Array:
        """Return the logits (N, T, target_size) of every step of the target.

        Parameters
        ----------
        x : tuple (source, source_lengths, target)
            Source (N, S) ids or (N, S, source_size) features, its (N,) lengths or None, and the target (N, T) ids,
            <sos> first: what the decoder reads.
        lengths : array of integers, (N,), optional
            Of the targets, <sos> counted.
        state : None
            The decoder starts from the encoder's state alone.
        training : bool
            Store what :meth:`backward` needs, and apply dropout.
        """
        if state is not None:
            raise ValueError("state: expected None, for the decoder starts from the state of the encoder; truncate and "
                             "carry_state do not apply to an EncoderDecoder")  # fmt: skip
        if not isinstance(x, tuple | list) or len(x) != 3:
            raise TypeError(f"x: expected a tuple (source, source_lengths, target), got {type(x).__name__}")
        source, source_lengths, target = x
        encoded, source_mask = self._encode(source, source_lengths, training)
        h, target_mask = self._embed(self.target_embedding, target, lengths, training)
        N = encoded.state[0].shape[1]
        if len(h) != N:
            raise ValueError(f"x: expected as many targets as N = {N} sources, got {len(h)}")
        n = None if lengths is None else np.asarray(lengths, np.int64)
        h, self.state = self.decoder.forward(h, encoded.state, lengths=lengths, training=training)
        if self.attention is not None and encoded.projected is not None:
            h = self.attention.forward(h, encoded.projected, encoded.lengths, lengths=n, training=training)
        mask = None
        if training and self.dropout:
            mask = dropout_mask(self.rng, h.shape, self.dropout, self.dtype, self.share)
            h = h * mask  # attention needs its own outputs again
        self._keep(training, (source_mask, target_mask, mask))
        return self.dense.forward(h, lengths=lengths, training=training)

    def backward(self, d: Array) -> None:
        """Write ``gradient_vector``, from the gradient of the logits, which must be 0 at padded steps."""
        with self._taken() as left:
            self._backward(d, *left)

    def _backward(self, d: Array, source_mask: Array | None, target_mask: Array | None, mask: Array | None) -> None:
        dh, d_memory = self.dense.backward(d), None
        if mask is not None:
            dh *= mask
        if self.attention is not None:
            dh, d_projected = self.attention.backward(dh)
            d_memory = self.attention.project_backward(d_projected)
        d_target, d_state = self.decoder.backward(dh, dx=self.target_embedding is not None)
        _embed_backward(self.target_embedding, d_target, target_mask)
        d_source, _ = self.encoder.backward(
            d_memory, self._bridge_backward(d_state), dx=self.source_embedding is not None
        )
        _embed_backward(self.source_embedding, d_source, source_mask)

    def encode(self, source: ArrayLike, lengths: ArrayLike | None = None) -> Encoded:
        """Read sources (N, S) or (N, S, source_size), to write their targets by :meth:`decode_step`."""
        return self._encode(source, lengths, training=False)[0]

    def decode_step(
        self, encoded: Encoded, state: tuple[Array, ...], tokens: ArrayLike
    ) -> tuple[Array, tuple[Array, ...]]:
        """One step of n hypotheses: the logits of the token that follows, and the state after it.

        Parameters
        ----------
        encoded : Encoded
            Of :meth:`encode`.
        state : tuple of arrays with n rows
            ``encoded.start``, or what this returned, rows chosen and repeated at will (``tuple(s[rows] for s in
            state)``); the first array says which source each hypothesis belongs to.
        tokens : (n,) integers
            The last token of each, <sos> at first.

        Returns
        -------
        logits : array (n, target_size)
        state : tuple of arrays with n rows

        Examples
        --------
        >>> import numpy as np
        >>> from rnnfast.encoder_decoder import EncoderDecoder
        >>> model = EncoderDecoder(8, 7, 4, seed=0)
        >>> encoded = model.encode([[4, 5, 6], [7, 0, 0]], [3, 1])
        >>> logits, state = model.decode_step(encoded, encoded.start, [1, 1])
        >>> logits.shape, [s.shape for s in state]
        ((2, 7), [(2,), (2, 1, 4), (2, 1, 4)])
        """
        source, *states = state
        ids = np.asarray(tokens)[:, None]
        h, _ = self._embed(self.target_embedding, ids, None, False)
        h, final = self.decoder.forward(h, tuple(s.swapaxes(0, 1) for s in states))
        if self.attention is not None and encoded.projected is not None:
            projected, lengths = encoded.projected, encoded.lengths
            if not np.array_equal(source, np.arange(len(projected))):
                projected, lengths = projected[source], None if lengths is None else lengths[source]
            h = self.attention.forward(h, projected, lengths)
        return self.dense.forward(h[:, 0]), (source, *(s.swapaxes(0, 1) for s in final))

    def _encode(self, source: ArrayLike, lengths: ArrayLike | None, training: bool) -> tuple[Encoded, Array | None]:
        h, mask = self._embed(self.source_embedding, source, lengths, training)
        L, directions, N, H = self.encoder.num_layers, self.encoder.directions, len(h), self.encoder.hidden_size
        start = None
        if training and self.initial_state_std:
            shape = (self.encoder.states, L * directions, N, H)
            start = tuple(normal(self.rng, self.initial_state_std, shape, 2, self.share).astype(self.dtype))
        memory, final = self.encoder.forward(h, start, lengths=lengths, training=training)
        state = []
        for s, bridge in zip(final, self.bridge, strict=True):
            ends = s.reshape(L, directions, N, H).swapaxes(1, 2).reshape(L, N, directions * H)  # side by side
            state.append(np.stack([dense.forward(e, training=training) for dense, e in zip(bridge, ends, strict=True)]))
        n = None if lengths is None else np.asarray(lengths, np.int64)
        projected = None if self.attention is None else self.attention.project(memory, n, training=training)
        return Encoded(projected, n, tuple(state)), mask

    def _bridge_backward(self, d_state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Gradients of the encoder's final state (num_layers * directions, N, H), from those of the decoder's first."""
        H = self.encoder.hidden_size
        result = []
        for d, bridge in zip(d_state, self.bridge, strict=True):
            ends = np.stack([dense.backward(e) for dense, e in zip(bridge, d, strict=True)])  # (L, N, directions * H)
            L, N, width = ends.shape
            result.append(ends.reshape(L, N, width // H, H).swapaxes(1, 2).reshape(L * width // H, N, H))
        return tuple(result)

    def _embed(
        self, embedding: Embedding | None, x: ArrayLike, lengths: ArrayLike | None, training: bool
    ) -> tuple[Any, Array | None]:
        """What a recurrent layer reads, and the mask of the dropout on it."""
        if embedding is None:
            return np.asarray(x), None
        h = embedding.forward(x, lengths=lengths, training=training)
        if not (training and self.dropout):
            return h, None
        mask = dropout_mask(self.rng, h.shape, self.dropout, self.dtype, self.share)
        h *= mask
        return h, mask


def _embed_backward(embedding: Embedding | None, d: Array | None, mask: Array | None) -> None:
    if embedding is not None and d is not None:
        embedding.backward(d if mask is None else np.multiply(d, mask, out=d))


class Pairs:
    """Sources and their targets, and batches of them for an :class:`EncoderDecoder`.

    Parameters
    ----------
    sources : list of arrays (S_i,) of ids or (S_i, D)
    targets : list of arrays (T_i,) of ids
    start, stop : int
        Ids of <sos> and <eos>, which frame each target: those of :class:`Vocabulary`.

    Attributes
    ----------
    lengths : array (N,)
        Of the targets, <eos> counted: steps of the decoder.
    source_lengths : array (N,)
    y : list of arrays (T_i,)
        The targets.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast.encoder_decoder import Pairs
    >>> (source, source_lengths, read), y, lengths = Pairs([[4, 5, 6], [7]], [[8], [9, 8]]).batch(np.array([1, 0]))
    >>> source.tolist(), source_lengths.tolist()
    ([[7, 0, 0], [4, 5, 6]], [1, 3])
    >>> read.tolist(), y.tolist(), lengths.tolist()
    ([[1, 9, 8], [1, 8, 0]], [[9, 8, 2], [8, 2, 0]], [3, 2])
    """

    per_step = True

    def __init__(self, sources: Sequence[Any], targets: Sequence[Any], *, start: int = 1, stop: int = 2) -> None:
        for name, value in (("sources", sources), ("targets", targets)):
            if not (getattr(value, "ndim", 1) and hasattr(value, "__len__")):
                raise TypeError(f"{name}: expected one item for each sequence, got {value!r:.60}")
        if len(sources) != len(targets):
            raise ValueError(f"targets: expected one for each of N = {len(sources)} sources, got {len(targets)}")
        for name, id in (("start", start), ("stop", stop)):
            if isinstance(id, bool) or not isinstance(id, int | np.integer) or not 0 <= id < 2**63:
                raise ValueError(f"{name}: expected the id of a token, got {id!r}")
        ids = [np.asarray(t) for t in targets]
        for i, t in enumerate(ids):
            if t.ndim != 1 or (t.size and t.dtype.kind not in "iu"):
                raise ValueError(f"targets[{i}]: expected (T,) token ids, got {t.shape} of {t.dtype}")
        framed = [np.concatenate([[start], t.astype(np.int64), [stop]]) for t in ids]
        self.y = ids
        try:
            self._sources, self._targets = Sequences(sources), Sequences(framed)
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"sources: {error}") from error
        self.source_lengths, self.lengths = self._sources.lengths, self._targets.lengths - 1

    def __len__(self) -> int:
        return len(self.lengths)

    def checksum(self) -> int:
        """CRC-32 of sources and targets: by it a checkpoint knows its data."""
        return zlib.crc32(self._targets.checksum().to_bytes(4, "little"), self._sources.checksum())

    def batch(self, rows: NDArray[np.int64]) -> tuple[tuple[Array, NDArray[np.int64], Array], Array, NDArray[np.int64]]:
        """Return ((source, its lengths, what the decoder reads), what it is to say, lengths) of these rows, padded."""
        source, _, source_lengths = self._sources.batch(rows)
        framed, lengths = self._targets.batch(rows)[0], self.lengths[rows]
        read = np.where(np.arange(framed.shape[1] - 1) < lengths[:, None], framed[:, :-1], 0)
        return (source, source_lengths, read), framed[:, 1:], lengths
