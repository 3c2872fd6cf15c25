"""`python -m fusionctl`."""

from fusionctl.cli import main

if __name__ == "__main__":
    main()
