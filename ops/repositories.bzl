"""What Bazel needs, from this machine: the installed TensorFlow, and Debian's copies of rules."""

def _tensorflow(ctx):
    workspace = ctx.path(Label("//ops:repositories.bzl")).dirname.dirname
    python = ctx.os.environ.get("PYTHON_BIN_PATH")
    if not python:
        in_venv = workspace.get_child(".venv").get_child("bin").get_child("python")
        python = in_venv if in_venv.exists else ctx.which("python3")
    finder = workspace.get_child("build_backend").get_child("installed_tensorflow.py")
    found = ctx.execute([python, finder])
    if found.return_code:
        fail("%s (looked with %s; PYTHON_BIN_PATH names another Python)" %
             (found.stderr.strip(), python))
    folder = ctx.path(found.stdout.strip())
    ctx.symlink(folder.get_child("include"), "include")
    ctx.symlink(folder.get_child("libtensorflow_framework.so.2"), "libtensorflow_framework.so.2")
    ctx.file("BUILD", """
cc_library(
    name = "tensorflow",
    srcs = ["libtensorflow_framework.so.2"],
    hdrs = glob(["include/**"]),
    includes = ["include"],
    visibility = ["//visibility:public"],
)
""")

tensorflow = repository_rule(
    implementation = _tensorflow,
    doc = "Headers and library of the TensorFlow of PYTHON_BIN_PATH, or .venv, or python3.",
    environ = ["PYTHON_BIN_PATH"],
    local = True,
)

def _shim(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

shim = repository_rule(
    implementation = _shim,
    doc = "A repository of a few small files, in the place of one that would be downloaded.",
    attrs = {"files": attr.string_dict(doc = "The content of each file, by its path.")},
    local = True,
)

_CC_RULES = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
]

def repositories():
    """Declares all. Debian's Bazel, which bears no version, finds its rules in those of Debian."""
    tensorflow(name = "tensorflow")
    if native.bazel_version:
        return
    native.local_repository(name = "platforms", path = "/usr/share/bazel/tools/platforms")
    native.local_repository(name = "rules_java", path = "/usr/share/bazel/rules/java")
    native.local_repository(name = "rules_proto", path = "/usr/share/bazel/rules/proto")

    # Debian's own rules_cc is too new for Debian's Bazel: hand on the rules built into Bazel.
    shim(name = "rules_cc", files = {
        "BUILD": "",
        "cc/BUILD": "",
        "cc/defs.bzl": "\n".join(["%s = native.%s" % (rule, rule) for rule in _CC_RULES]),
    })

    # Every cc_test names the tool that merges coverage reports, which only `bazel coverage` runs.
    shim(name = "remote_coverage_tools", files = {
        "BUILD": """
filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
""",
    })
