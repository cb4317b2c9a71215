# The public surface, a line a module; `__init__.py` reads these lines to know where each name is defined.
from exporters.proving.proof import Verdict as Verdict
from exporters.run.export import export as export
from exporters.run.report import Report as Report
from exporters.run.verify import verify as verify
from serve.server import serve as serve
from serve.settings import ServeSettings as ServeSettings
from toolkit import errors as errors
from toolkit.artifacts import Artifact as Artifact
from toolkit.backends import Backend as Backend
from toolkit.backends import Engine as Engine
from toolkit.exporting import Exporter as Exporter
from toolkit.exporting import ExportOptions as ExportOptions
from toolkit.importing import Imported as Imported
from toolkit.importing.importer import import_ as import_
from toolkit.inspection.doctor import doctor as doctor
from toolkit.inspection.layers import Layers as Layers
from toolkit.inspection.layers import show as show
from toolkit.inspection.listing import datasets as datasets
from toolkit.inspection.listing import models as models
from toolkit.inspection.network import Network as Network
from toolkit.inspection.network import load as load
from toolkit.models import ModelSpec as ModelSpec
from toolkit.passports import Passport as Passport
from toolkit.preprocessing import Preprocessing as Preprocessing
from toolkit.profiling.bench import ProfileSettings as ProfileSettings
from toolkit.profiling.comparing.differences import Comparison as Comparison
from toolkit.profiling.comparing.differences import compare as compare
from toolkit.profiling.profile import profile as profile
from toolkit.profiling.result import Profile as Profile
from toolkit.recipes import Recipe as Recipe
from toolkit.training import Outcome as Outcome
from toolkit.training import Watcher as Watcher
from toolkit.training.jobs import train as train
from toolkit.training.sweep import sweep as sweep
from toolkit.training.table import Table as Table

__version__: str
