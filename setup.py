"""The one compiled part, which is optional: without a C compiler extraction does the same with numpy, only slower."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("fusionctl.data._scan", ["fusionctl/data/_scan.c"], optional=True)])
