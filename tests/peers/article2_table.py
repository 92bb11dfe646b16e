"""Article 2's table, repeated: a perceptron on the digits 0-4 under each reading of its penalty.

The article writes three penalties and reports one table without seeds: accuracy 96.3 % without L2
and 97.2, 96.9, 96.2 % for λ = .01, .1, 1. Here every reading is trained for every λ and seed with
configs/articles/2_digits.yaml; a difference counts only where it stands clear of the seeds' spread.
Runs are short (one epoch), so that all fit into minutes on two cores.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LAMBDAS = (0.01, 0.1, 1.0)
READINGS = {
    "λ Σ W²": ["regularization.convention=full"],
    "λ/2 ‖w‖², with biases": ["regularization.rules=[]"],
    "λ/2 Σ W²": [],
}
ARTICLE = {0.0: (96.3, 0.0491), 0.01: (97.2, 0.0474), 0.1: (96.9, 0.0473), 1.0: (96.2, 0.0472)}


def run(job):
    """Accuracy in % and loss on the test digits."""
    options, overrides, l2, seed = job
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        command = [options.ridgeline, "train", str(ROOT / "configs/articles/2_digits.yaml"),
                   "--out", str(out), f"regularization.l2={l2}", f"train.seed={seed}",
                   f"train.epochs={options.epochs}", "runtime.threads=1",
                   "runtime.loader_threads=1", "checkpoint.every_steps=0", *overrides]
        environment = dict(os.environ, RIDGELINE_DATA=options.data)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        last = sorted((out / "eval").glob("step-*/metrics.json"))[-1]
        metrics = json.loads(last.read_text())["classification"]
        return 100 * metrics["accuracy"], metrics["loss"]


def spread(values, digits):
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def compare(results, baseline):
    """Paired by seed: mean difference over its standard error."""
    differences = [a[0] - b[0] for a, b in zip(results, baseline)]
    mean, error = statistics.mean(differences), statistics.stdev(differences)
    error /= len(differences) ** 0.5
    return f"{mean:+.2f} ± {error:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ridgeline", default="./build/ridgeline")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"),
                        help="folder that holds mnist/")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    options.ridgeline = str(pathlib.Path(options.ridgeline).resolve())
    seeds = range(1, options.seeds + 1)
    settings = [("none", [], 0.0)] + [(name, overrides, l2) for name, overrides in READINGS.items()
                                      for l2 in LAMBDAS]
    jobs = [(options, overrides, l2, seed) for _, overrides, l2 in settings for seed in seeds]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(run, jobs))
    print(f"digits 0-4, 784-64-5, {options.epochs} epoch(s), seeds 1..{options.seeds}: "
          "mean ± standard deviation; difference: paired by seed, ± standard error")
    print("| penalty | λ | accuracy % | test loss | difference to none | article |")
    print("| --- | --- | --- | --- | --- | --- |")
    baseline = results[:options.seeds]
    for i, (name, _, l2) in enumerate(settings):
        mine = results[i * options.seeds:(i + 1) * options.seeds]
        accuracy, loss = ([r[k] for r in mine] for k in (0, 1))
        difference = "" if i == 0 else compare(mine, baseline)
        article = "{:.1f}, {:.4f}".format(*ARTICLE[l2])
        print(f"| {name} | {l2:g} | {spread(accuracy, 2)} | {spread(loss, 4)} | {difference} | "
              f"{article} |")


if __name__ == "__main__":
    main()
