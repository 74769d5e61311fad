// Package film writes moving pictures, as animated PNG or GIF, of one palette that is
// made for all of their frames; and text into pictures.
//
//	err := film.Write("a.gif", film.Film{Frames: 40, Draw: frame, Hold: hold})
package film
