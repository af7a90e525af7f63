"""A run that has lost its way ends with a report."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from encoder4editing_jax.config import Config, Run
from encoder4editing_jax.data import sources
from encoder4editing_jax.training.guard import TrainingStopped, stop_if_lost

CONFIG = Config(run=Run(batch_size=2, most_skipped=3))


def test_it_names_numbers_images_and_the_last_checkpoint(tmp_path):
  for i in range(4):
    pixels = np.full((4, 4, 3), i, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.png")
  source = sources.FolderSource(tmp_path)
  metrics = {"loss": jnp.float32("nan"), "skipped": jnp.int32(2)}
  stop_if_lost(CONFIG, source, 8, metrics, saved=5)
  metrics["skipped"] = jnp.int32(3)
  with pytest.raises(TrainingStopped) as caught:
    stop_if_lost(CONFIG, source, 8, metrics, saved=5)
  told = str(caught.value)
  assert "3 steps in a row, up to step 8" in told
  assert "loss nan" in told
  assert told.count(".png") == 2
  assert "checkpoint of step 5 is sound" in told
