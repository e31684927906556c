"""The library behind the CIFAKE notebooks: detect generated images, and measure it honestly.

Importing this package imports no deep-learning framework; the modules that need one say so.
"""

__version__ = "0.1.0"
