"""Official checkpoints, as files or mappings of arrays, to our networks.

`read` opens a file and runs nothing of it; `write` makes one for PyTorch.
`to_*` convert what was read, `from_*` go the way back.
Everything about a network's architecture is read from the shapes of its
tensors. Conversion is strict: each tensor is used exactly once, or is on a
list of what has no use here, and anything else is an error that names it.
"""

from encoder4editing_jax.converters.converting import convert as convert
from encoder4editing_jax.converters.directions import (
  to_directions as to_directions,
)
from encoder4editing_jax.converters.discriminators import (
  to_discriminator as to_discriminator,
  to_latent_discriminator as to_latent_discriminator,
)
from encoder4editing_jax.converters.export import write as write
from encoder4editing_jax.converters.features import (
  to_arcface as to_arcface,
  to_lpips as to_lpips,
  to_moco as to_moco,
)
from encoder4editing_jax.converters.generators import (
  to_generator as to_generator,
)
from encoder4editing_jax.converters.inception import (
  to_inception as to_inception,
)
from encoder4editing_jax.converters.inverter import to_inverter as to_inverter
from encoder4editing_jax.converters.irse import to_backbone as to_backbone
from encoder4editing_jax.converters.limits import (
  CheckpointError as CheckpointError,
  Limits as Limits,
)
from encoder4editing_jax.converters.official import (
  from_arcface as from_arcface,
  from_discriminator as from_discriminator,
  from_generator as from_generator,
  from_inverter as from_inverter,
  from_latent_discriminator as from_latent_discriminator,
)
from encoder4editing_jax.converters.reader import read as read
from encoder4editing_jax.converters.recognition import identify as identify
from encoder4editing_jax.converters.training_state import (
  to_training_state as to_training_state,
)
from encoder4editing_jax.training.snapshots import (
  OptimizerState as OptimizerState,
  TrainingState as TrainingState,
)
