import sys
from pathlib import Path

# The tests here share `store_samples` and the fixtures; importlib mode puts no folder on the path.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "fixtures")]
