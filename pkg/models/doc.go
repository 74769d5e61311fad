// Package models holds the networks: their layers, the parameters' names and
// first values, and the programs that run them on micro-batches.
//
// The smallest use, one gradient of the whole vision-language-action model:
//
//	m, err := models.New(models.Config{Kind: models.VLA, …})
//	m.Init(seed)
//	p, err := m.Program(rt, 8, m.Spec(tokens), models.ProgramOptions{Train: true})
//	m.Params().BindGrads(make([]float32, m.Params().Len()))
//	err = p.Load(batch)         // 8 samples; copied
//	p.SetStep(seed, step, true) // names the dropout's random numbers
//	loss := p.Forward()
//	p.Backward()                // writes the bound gradients
//	p.Close()                   // gives the activations' memory back
//
// # Shapes
//
//	B  samples in the batch      D  model width (d_model)     V  vocabulary
//	T  instruction tokens        H  heads, each D/H wide      A  action values
//	N  image patches, (S/P)²     F  feed-forward width        S  image side
//	P  patch side                C  image channels
//
// # The VLA
//
//	images [B,C,S,S]                       tokens [B,T]
//	      │ patch_embedding                     │ embedding·√D + sin/cos positions
//	[B,N,D]                                [B,T,D]
//	      │ cls_token ++, + pos_embedding       │
//	[B,1+N,D]                                   │
//	      │ n_layers/2 × block                  │ n_layers/2 × block  (padding hidden)
//	      │ take cls                            │
//	[B,1,D]  vision_encoder                [B,T,D]  language_encoder
//	      │ vision_proj                         │ language_proj
//	      │ + type 0                            │ + type 1
//	      └────────────── concat ───────────────┘
//	                 [B,1+T,D]
//	                     │ n_layers/2 × block  (padding hidden)
//	                     │ mean over visible tokens
//	                  [B,D]   cross_modal_fusion
//	                     │ Linear(D,256) ReLU Linear(256,A)
//	               actions [B,A]
//
// A block is post-norm: x₁ = LN(x + drop(MHA(x))), x₂ = LN(x₁ + drop(W₂·drop(relu(W₁·x₁)))).
//
// # PyTorch
//
// Parameters have the names, shapes and layouts of the reference's state_dict,
// and their first values PyTorch's default distributions. TestGolden compares
// every output and gradient with the reference's. Masks say what is visible
// (1, true), never what is hidden. docs/numerics.md lists where the reference
// is not followed.
//
// # Kinds
//
// A kind of model is its options, a struct with the keys of a job file's model
// section (Options), and its layers (Network): one file, and a line in the list
// that Kinds returns. The five kinds of this package share one struct, Config,
// since they are made of the same layers; each says in its own file which keys it
// has, what it wants of a sample, and how it is checked. A Head is a kind of loss.
//
// # Invariants
//
//   - Parameters are registered in the order in which forward uses them, so that
//     the slab of gradients fills from its beginning (see tensor.Params).
//   - First values and positional tables are the same bits on every CPU: they are
//     made of IEEE operations that are each rounded by themselves (portable.go).
//   - A token that equals pad_token has no influence on any other token's
//     result, nor on any gradient.
package models
