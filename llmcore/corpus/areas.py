"""Which area of the standard library a top-level module belongs to: seven groups of the library reference's chapters.

The chapters are those of "The Python Standard Library" (3.11); a superseded module stands in the chapter it had
before it was superseded, a private helper in that of its public face (`_pydecimal` beside `decimal`). Chapters are
grouped so that areas are of similar size and told apart by their words: `concurrency` has the chapter on networking
and interprocess communication with it, as the reference treats `asyncio` there; what protocols say is another area,
and the formats of their content a third.
"""

__all__ = ["AREAS", "CHAPTERS", "area_of"]

CHAPTERS: dict[str, str] = {
    "Text Processing Services": (
        "difflib re readline rlcompleter sre_compile sre_constants sre_parse string stringprep textwrap unicodedata"
    ),
    "Binary Data Services": "codecs encodings struct",
    "Data Types": (
        "array bisect calendar collections _collections_abc copy datetime _strptime enum graphlib heapq "
        "pprint reprlib types weakref _weakrefset zoneinfo"
    ),
    "Numeric and Mathematical Modules": "cmath decimal _pydecimal fractions math numbers random statistics",
    "Functional Programming Modules": "functools itertools operator",
    "Internationalization": "gettext locale",
    "File and Directory Access": (
        "filecmp fileinput fnmatch genericpath glob linecache ntpath nturl2path os pathlib posixpath shutil "
        "stat tempfile"
    ),
    "Data Persistence": "copyreg _compat_pickle dbm marshal pickle shelve sqlite3",
    "Data Compression and Archiving": "bz2 _compression gzip lzma tarfile zipfile zlib",
    "File Formats": "configparser csv netrc plistlib tomllib xdrlib",
    "Cryptographic Services": "crypt hashlib hmac secrets",
    "Multimedia Services": "aifc audioop chunk colorsys imghdr ossaudiodev sndhdr sunau wave",
    "Generic Operating System Services": (
        "argparse ctypes curses errno getopt getpass io logging optparse platform _pyio time _aix_support "
        "_bootsubprocess _osx_support"
    ),
    "Unix and Windows Specific Services": (
        "fcntl grp msilib msvcrt nis nt pipes posix pty pwd resource spwd syslog termios tty winreg winsound"
    ),
    "Concurrent Execution": (
        "concurrent contextvars multiprocessing queue sched subprocess _thread threading _threading_local"
    ),
    "Networking and Interprocess Communication": "asynchat asyncio asyncore mmap select selectors signal socket ssl",
    "Internet Data Handling": "base64 binascii email json mailbox mailcap mimetypes quopri uu",
    "Structured Markup Processing Tools": "html _markupbase pyexpat xml",
    "Internet Protocols and Support": (
        "cgi cgitb ftplib http imaplib ipaddress nntplib poplib smtpd smtplib socketserver telnetlib urllib "
        "uuid webbrowser wsgiref xmlrpc"
    ),
    "Program Frameworks": "cmd shlex turtle turtledemo",
    "Development Tools": "doctest pydoc typing unittest",
    "Debugging and Profiling": "bdb cProfile faulthandler pdb profile pstats timeit trace tracemalloc",
    "Software Packaging and Distribution": "ensurepip venv zipapp",
    "Python Runtime Services": (
        "abc _py_abc atexit builtins contextlib dataclasses __future__ gc inspect site _sitebuiltins sys "
        "sysconfig traceback warnings"
    ),
    "Custom Python Interpreters": "code codeop",
    "Importing Modules": "imp importlib modulefinder pkgutil runpy zipimport",
    "Python Language Services": (
        "ast compileall dis keyword opcode pickletools py_compile pyclbr symtable tabnanny token tokenize"
    ),
}
"""By chapter, its top-level modules."""

AREAS: dict[str, list[str]] = {
    "data_types": [
        "Text Processing Services",
        "Binary Data Services",
        "Data Types",
        "Numeric and Mathematical Modules",
        "Functional Programming Modules",
        "Internationalization",
    ],
    "files_and_system": [
        "File and Directory Access",
        "Data Persistence",
        "Data Compression and Archiving",
        "File Formats",
        "Cryptographic Services",
        "Multimedia Services",
        "Generic Operating System Services",
        "Unix and Windows Specific Services",
    ],
    "concurrency": ["Concurrent Execution", "Networking and Interprocess Communication"],
    "internet_data": ["Internet Data Handling", "Structured Markup Processing Tools"],
    "internet_protocols": ["Internet Protocols and Support"],
    "development": [
        "Program Frameworks",
        "Development Tools",
        "Debugging and Profiling",
        "Software Packaging and Distribution",
    ],
    "runtime": [
        "Python Runtime Services",
        "Custom Python Interpreters",
        "Importing Modules",
        "Python Language Services",
    ],
}
"""By area, its chapters."""

_AREA_OF = {
    module: area for area, chapters in AREAS.items() for chapter in chapters for module in CHAPTERS[chapter].split()
}


def area_of(module: str) -> str | None:
    """The area of a top-level module; None for what belongs to none (`this`, `antigravity`, the language reference)."""
    return _AREA_OF.get(module)
