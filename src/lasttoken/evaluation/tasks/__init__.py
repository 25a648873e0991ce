"""The task of a classifier: one label for each text, or any number of labels. All that differs between the two is here.

                      SingleLabel                          MultiLabel
    truth             label_ids [N]                        whether a text has each label, bool [N, K]
    loss              cross-entropy                        binary cross-entropy of each label
    probabilities     softmax over the K labels            sigmoid of each logit
    prediction        the most probable label              each label from its threshold on
    headline metric   accuracy                             micro-F1

Predictions have the shape of the truth. Code above this package calls the methods of a `Task` and does not test which
of the two it has; `core`, `data` and `audit` do not know tasks, only the separator between labels in a file.
"""
