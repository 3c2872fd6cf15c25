"""The compiled parts, which are optional: without a C compiler numpy does the same, only slower."""

from setuptools import Extension, setup

# Without fused multiply-add a bootstrap gives the same digits on every machine.
BOOT = Extension("fusionctl._boot", ["fusionctl/_boot.c"], extra_compile_args=["-ffp-contract=off"], optional=True)

setup(ext_modules=[Extension("fusionctl.data._scan", ["fusionctl/data/_scan.c"], optional=True), BOOT])
