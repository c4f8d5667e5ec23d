# evaluator
