"""Models of what is likely: from a condition to a mel, a latent or codes."""

from cymatic.priors.flow import FlowPrior
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.gpt_vae import GPTVAE

PRIORS = (FlowPrior,)  # every kind over mels that a model folder may hold
CODE_PRIORS = (GPTPrior, GPTVAE)  # and every kind over codes
