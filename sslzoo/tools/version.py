"""The version of this package, as it is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sslzoo")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0+unknown"
