"""The paper's theory, tried out in numbers on problems whose constants are known. One file per statement."""
