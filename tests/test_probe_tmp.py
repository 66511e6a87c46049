from muse_eval.types import *
def test_it(tiny_model, tiny_tokenizer):
    from muse_eval.engines import open_engine, ModelSource
    print(len(tiny_tokenizer), tiny_tokenizer("Question: Who wrote déjà vu 🙂?").input_ids)
    with open_engine("hf", ModelSource(str(tiny_model)), {}) as e:
        for b in e.generate([Generate("Question: Who?", 40), Generate("The keeper of", 40)]): print(b)
        for b in e.logprobs([Logprobs("Question: Who?", True)]): print(b)
