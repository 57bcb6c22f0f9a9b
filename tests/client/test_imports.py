"""The dependencies of the client: websockets, and those of the protocol."""

import subprocess
import sys

PRINT_WHAT_COMES_ALONG = """
import sys
before = set(sys.modules)
import makima_tts.client
come = {name.partition(".")[0] for name in set(sys.modules) - before}
# the interpreter keeps some of its own under names that begin so
print(*sorted(name for name in come - sys.stdlib_module_names if not name.startswith("_")))
"""


def test_the_client_imports_websockets_and_the_protocols_dependencies_only() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PRINT_WHAT_COMES_ALONG], capture_output=True, text=True, check=True
    )
    of_pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert set(ran.stdout.split()) - of_pydantic == {"makima_tts", "websockets"}
