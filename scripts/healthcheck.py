"""Health check of the container: exit code 0 when /ready returns 200, else 1, with the reason on stderr.

It reads TTS_PORT and uses the standard library only, because the image has no curl.
"""

import os
import sys
import urllib.request

TIMEOUT_S = 3
# Container engines pass the host's proxy settings, and that proxy cannot reach this container's loopback.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    """The exit code."""
    url = f"http://127.0.0.1:{os.environ.get('TTS_PORT', '8001')}/ready"
    try:
        with _DIRECTLY.open(url, timeout=TIMEOUT_S):
            return 0
    except OSError as failure:
        print(f"not ready: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
