import sys
from pathlib import Path

# The tests here share `store_samples`; importlib mode puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
