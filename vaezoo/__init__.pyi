from .core import ELBO as ELBO
from .core import VAE as VAE
from .core import Inference as Inference
from .data import Dataset as Dataset
from .data import load_dataset as load_dataset
from .errors import VaezooError as VaezooError
from .evaluation import evaluate as evaluate
from .recipe import list_recipes as list_recipes
from .recipe import read_recipe as read_recipe
from .registry import Architecture as Architecture
from .registry import create as create
from .registry import list_variants as list_variants
from .registry import register as register
from .storage.conversion import convert as convert
from .storage.model_folder import save as save
from .workflows.compare import compare as compare
from .workflows.embed import embed as embed
from .workflows.export import export as export
from .workflows.fit_sampler import fit_sampler as fit_sampler
from .workflows.fit_sampler import load_sampler as load_sampler
from .workflows.fit_sampler import save_sampler as save_sampler
from .workflows.load import load as load
from .workflows.publish import push as push
from .workflows.train import train as train
from .zoo.index import info as info
from .zoo.index import list_models as list_models

__version__: str
