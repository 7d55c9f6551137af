package record

import (
	"gonum.org/v1/plot/plotter"

	"rag-retrieval-go/internal/page"
	"rag-retrieval-go/models/finetune"
)

// maxPoints is the most points of a curve. Longer curves are averaged.
const maxPoints = 500

// charts draws the curves of a run and the histogram of text lengths.
func charts(rows []Row, validations []finetune.Validation, lengths []int) ([]page.Chart, error) {
	stepCurve := func(f func(i int) float64) plotter.XYs {
		var out plotter.XYs
		for i, r := range rows {
			out = append(out, plotter.XY{X: float64(r.Step), Y: f(i)})
		}
		return averagedPoints(out)
	}
	validationCurve := func(f func(v finetune.Validation) float64) plotter.XYs {
		var out plotter.XYs
		for _, v := range validations {
			out = append(out, plotter.XY{X: float64(v.Step), Y: f(v)})
		}
		return out
	}
	singleCurve := func(f func(i int) float64) []page.Curve { return []page.Curve{{At: stepCurve(f), Color: page.Blue}} }
	loss := stepCurve(func(i int) float64 { return rows[i].Loss })
	losses := []page.Curve{{Name: "step", At: loss, Color: page.Pale}, {Name: "smoothed", At: smoothed(loss), Color: page.Blue}}
	type want struct {
		title  string
		curves []page.Curve
	}
	var wants []want
	if len(validations) > 0 {
		wants = append(wants, want{"MAP and MRR@10 on the validation data, points", []page.Curve{
			{Name: "MAP", At: validationCurve(func(v finetune.Validation) float64 { return 100 * v.MAP }), Color: page.Blue, Dotted: true},
			{Name: "MRR@10", At: validationCurve(func(v finetune.Validation) float64 { return 100 * v.MRR }), Color: page.Orange, Dotted: true},
		}})
	}
	if len(validations) > 0 && !validations[0].NoLoss {
		losses = append(losses, page.Curve{
			Name: "validation", At: validationCurve(func(v finetune.Validation) float64 { return v.Loss }), Color: page.Orange, Dotted: true})
	}
	wants = append(wants, want{"Loss", losses},
		want{"Learning rate", singleCurve(func(i int) float64 { return rows[i].LR })},
		want{"Gradient norm, before clipping", singleCurve(func(i int) float64 { return rows[i].GradNorm })},
		want{"Tokens per second", singleCurve(func(i int) float64 { return float64(rows[i].Tokens) / stepSeconds(rows, i) })},
		want{"Memory, MB", singleCurve(func(i int) float64 { return rows[i].MemoryMB })})
	var out []page.Chart
	for _, w := range wants {
		c, err := page.Curves(w.title, "step", w.curves...)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(lengths) > 0 {
		var values []float64
		for _, n := range lengths {
			values = append(values, float64(n))
		}
		c, err := page.Histogram("Texts by length", "tokens", values, 32)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// averagedPoints averages neighbouring points, so that a curve has at most maxPoints.
func averagedPoints(all plotter.XYs) plotter.XYs {
	per := (len(all) + maxPoints - 1) / maxPoints
	if per <= 1 {
		return all
	}
	var out plotter.XYs
	for i := 0; i < len(all); i += per {
		part := all[i:min(i+per, len(all))]
		var mean plotter.XY
		for _, xy := range part {
			mean.X += xy.X / float64(len(part))
			mean.Y += xy.Y / float64(len(part))
		}
		out = append(out, mean)
	}
	return out
}

// smoothed returns the exponential moving average over about a twentieth of the curve.
func smoothed(all plotter.XYs) plotter.XYs {
	out := append(plotter.XYs{}, all...)
	weight := 1 / (1 + float64(len(all))/20)
	for i := 1; i < len(out); i++ {
		out[i].Y = out[i-1].Y + weight*(all[i].Y-out[i-1].Y)
	}
	return out
}
