"""Everything that says how good a model is: classifiers and probes, distances, code use, the verdict on a run."""
