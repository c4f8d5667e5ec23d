# tests of evaluator
