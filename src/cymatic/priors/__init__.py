"""Models of what is likely: from a condition to a mel, a latent or codes."""

from cymatic.priors.flow import FlowPrior

PRIORS = (FlowPrior,)  # every kind that a model folder may hold
