# tests of searchspace
