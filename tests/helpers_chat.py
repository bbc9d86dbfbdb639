"""A tiny random chat model of transformers in a folder, as `save_pretrained` writes it."""

WORDS = ["<end>", "<unk>", "<eos>", "<pad>", "</think>", "user", "assistant", *(f"w{i}" for i in range(60))]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE


def save_chat_model(folder, template=TEMPLATE, longest=2048, mute=False):
    """Write the model; a mute one says nothing but <end>, which only the template calls the end of a turn."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>", extra_special_tokens=["<end>"]
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"eos_token_id": 2, "pad_token_id": 3, "max_position_embeddings": longest}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **sizes, **ids))
    if mute:
        network.lm_head.weight.data.zero_()  # all words are equally likely: the first one, <end>, is taken
    network.save_pretrained(folder)
    return folder
