"""nerfgen: from one photograph per object to a generative 3D model of the class.

Each pipeline stage is a function in its own room and a command of the same name:
``nerfgen.landmark``, ``nerfgen.camera``, ``nerfgen.mask``, ``nerfgen.train``,
``nerfgen.generate``. The files that join them are described in ``nerfgen.artifact``.
"""

__version__ = "0.1.0"
