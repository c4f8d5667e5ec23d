# tests of db
