"""Tells griffe the names that a package of tfps loads on first use and does not import."""

import ast

import griffe


class LazyNames(griffe.Extension):
  """Adds an alias for each name in a package's `_PUBLIC`: {name: module that has it}."""

  def on_package(self, *, pkg, loader, **kwargs):
    for module in (pkg, *pkg.modules.values()):
      public = module.attributes.get("_PUBLIC")
      if public is None:
        continue
      for name, home in ast.literal_eval(str(public.value)).items():
        module.set_member(name, griffe.Alias(name, f"{home}.{name}", parent=module))
