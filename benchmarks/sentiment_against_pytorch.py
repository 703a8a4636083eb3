"""The main job beside PyTorch: python benchmarks/sentiment_against_pytorch.py   (needs torch, and the data set)

The same words, split, batches, model (embedding 64, bidirectional LSTM 64, dropout 0.5 on the embedding and before the
Dense layer), initial weights, optimiser (Adam, 2e-3) and number of passes. The logits are compared before anything is
timed; then passes alternate: one of rnnfast, one of PyTorch. PyTorch gets packed sequences, its way to stop each
direction at the end of each sentence.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import rnnfast
import torch
from rnnfast.benchmark import machine
from rnnfast.datasets import load_sentiment
from rnnfast.training import Sequences
from torch.nn.utils.rnn import pack_padded_sequence


class TorchModel(torch.nn.Module):
    def __init__(self, network: rnnfast.Network) -> None:
        super().__init__()
        V, E = network.embedding.parameters["E"].shape
        H = network.recurrent.hidden_size
        self.embedding = torch.nn.Embedding(V, E)
        self.lstm = torch.nn.LSTM(E, H, batch_first=True, bidirectional=True)
        self.dropout = torch.nn.Dropout(network.dropout)
        self.dense = torch.nn.Linear(2 * H, 2)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(network.embedding.parameters["E"]))
            self.dense.weight.copy_(torch.from_numpy(network.dense.parameters["W"].T))
            self.dense.bias.copy_(torch.from_numpy(network.dense.parameters["b"]))
            for name in ("l0", "l0_reverse"):
                p = {key: torch.from_numpy(network.recurrent.parameters[f"{key}_{name}"]) for key in ("Wx", "Wh", "b")}
                getattr(self.lstm, f"weight_ih_{name}").copy_(p["Wx"].T)
                getattr(self.lstm, f"weight_hh_{name}").copy_(p["Wh"].T)
                getattr(self.lstm, f"bias_ih_{name}").copy_(p["b"])
                getattr(self.lstm, f"bias_hh_{name}").zero_()

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        words = self.dropout(self.embedding(x))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.dense(self.dropout(torch.cat([h[0], h[1]], dim=1)))


def torch_pass(model: TorchModel, optimizer: torch.optim.Optimizer, data: Sequences, rng: np.random.Generator) -> None:
    model.train()
    for rows in rnnfast.batches(data.lengths, 32, shuffle=rng):
        x, y, lengths = map(torch.from_numpy, data.batch(rows))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x, lengths), y).backward()
        optimizer.step()


def torch_accuracy(model: TorchModel, data: Sequences) -> float:
    model.eval()
    right = 0
    with torch.no_grad():
        for rows in rnnfast.batches(data.lengths, 256):
            x, y, lengths = map(torch.from_numpy, data.batch(rows))
            right += int((model(x, lengths).argmax(1) == y).sum())
    return right / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rnnfast.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    print(", ".join(f"{k}: {v}" for k, v in machine().items()) + f", torch: {torch.__version__}")

    texts, labels = load_sentiment()
    words = [rnnfast.tokenize(text) for text in texts]
    y = np.array([label == "positive" for label in labels], np.int64)
    train, valid, test = rnnfast.split(len(texts), (0.8, 0.1, 0.1), 0)
    vocabulary = rnnfast.Vocabulary.build([words[i] for i in train], min_count=2)
    ids = [vocabulary.encode(w) for w in words]
    parts = [Sequences([ids[i] for i in rows], y[rows]) for rows in (train, valid, test)]
    print(f"{len(train)} sentences, {len(vocabulary)} words, {options.threads} threads, {options.passes} passes")

    seconds: dict[str, list[float]] = {"rnnfast": [], "torch": []}
    for seed in options.seeds:
        network = rnnfast.Network(
            len(vocabulary), 64, 2, cell="lstm", bidirectional=True, embedding_size=64, dropout=0.5, seed=seed
        )
        model = TorchModel(network)
        torch.manual_seed(seed)
        x, _, lengths = parts[0].batch(np.arange(32))
        model.eval()
        with torch.no_grad():
            theirs = model(torch.from_numpy(x), torch.from_numpy(lengths)).numpy()
        difference = np.abs(theirs - network.forward(x, lengths=lengths)).max()
        assert difference < 1e-5, f"logits differ by {difference}"
        ours, torchs = rnnfast.Adam(2e-3), torch.optim.Adam(model.parameters(), lr=2e-3)
        our_rng, torch_rng = np.random.default_rng(seed), np.random.default_rng(seed)
        accuracy = []
        for _ in range(options.passes):
            start = time.perf_counter()
            rnnfast.fit(network, parts[0].x, parts[0].y, optimizer=ours, max_epochs=1, seed=our_rng)
            middle = time.perf_counter()
            torch_pass(model, torchs, parts[0], torch_rng)
            end = time.perf_counter()
            seconds["rnnfast"].append(middle - start)
            seconds["torch"].append(end - middle)
            ours_now = [rnnfast.evaluate(network, part)["accuracy"] for part in parts[1:]]
            accuracy.append([*ours_now, torch_accuracy(model, parts[1]), torch_accuracy(model, parts[2])])
        best_ours, best_torch = max(accuracy), max(accuracy, key=lambda a: a[2])
        print(
            f"seed {seed}: held-out accuracy at the pass with the best validation: rnnfast {best_ours[1]:.1%}, "
            f"torch {best_torch[3]:.1%}; at the last pass: {accuracy[-1][1]:.1%}, {accuracy[-1][3]:.1%}"
        )
    each = {name: statistics.median(s) for name, s in seconds.items()}
    print(f"seconds for a pass, median: rnnfast {each['rnnfast']:.2f}, torch {each['torch']:.2f}")
    total = {name: s * options.passes for name, s in each.items()}
    ratio = total["torch"] / total["rnnfast"]
    print(f"{options.passes} passes: {total['rnnfast']:.1f} s against {total['torch']:.1f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
