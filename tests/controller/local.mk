# tests of controller
